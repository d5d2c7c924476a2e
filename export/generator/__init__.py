"""The generator's part of export: where its weights come from, and the proof of its prompt contract."""
