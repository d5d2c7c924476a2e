// The page works without this file. With it, results arrive while you type and long texts fold.
"use strict";

const TYPING_PAUSE_MS = 220;
const FOLDED_HEIGHT_PX = 150;

const form = document.getElementById("search");
const results = document.getElementById("results");
const box = document.getElementById("q");
let waiting = null;
let inFlight = null;

function address() {
  const fields = [...new FormData(form)].filter(([name, value]) => value !== "" && !(name === "limit" && value === "10"));
  const query = new URLSearchParams(fields).toString();
  return query ? `/?${query}` : "/";
}

async function show(url, { remember }) {
  inFlight?.abort();
  const request = (inFlight = new AbortController());
  results.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, { headers: { "X-Fragment": "results" }, signal: request.signal });
    // The server escapes every document's text, and the page's policy forbids scripts that are not ours.
    results.innerHTML = await response.text();
  } catch (error) {
    if (error.name === "AbortError") return;
    const notice = document.createElement("section");
    notice.className = "notice problem";
    notice.setAttribute("role", "alert");
    notice.textContent = "The search service does not answer. It may be restarting: try again in a moment.";
    results.replaceChildren(notice);
  }
  results.removeAttribute("aria-busy");
  document.body.classList.toggle("landing", box.value.trim() === "");
  document.title = box.value.trim() ? `${box.value.trim().slice(0, 60)} · Twinline` : "Twinline";
  // One entry in the history per question, not per letter.
  if (remember) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  foldLongTexts();
}

function foldLongTexts() {
  for (const text of results.querySelectorAll(".hit .text")) {
    if (text.scrollHeight <= FOLDED_HEIGHT_PX * 1.25) continue;
    text.classList.add("folded");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "unfold";
    button.textContent = "Show the whole chunk";
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => {
      const folded = text.classList.toggle("folded");
      button.textContent = folded ? "Show the whole chunk" : "Show less";
      button.setAttribute("aria-expanded", String(!folded));
    });
    text.after(button);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(waiting);
  show(address(), { remember: true });
});

form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => show(address(), { remember: false }), TYPING_PAUSE_MS);
});

addEventListener("popstate", () => {
  const asked = new URLSearchParams(location.search);
  for (const field of form.querySelectorAll("input, select")) {
    if (field.type === "checkbox") field.checked = asked.get(field.name) === field.value;
    else field.value = asked.get(field.name) ?? (field.name === "limit" ? "10" : "");
  }
  show(location.pathname + location.search, { remember: false });
});

addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, textarea")) {
    event.preventDefault();
    box.focus();
    box.select();
  }
});

foldLongTexts();
