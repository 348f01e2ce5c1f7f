/** Waits for a text in a stream of bytes that arrives in pieces. */
export class ConsoleMatcher {
  readonly #wanted: Uint8Array;
  /** For each prefix of the text, the length of its longest proper prefix that is also its suffix. */
  readonly #fallback: Uint16Array;
  #matched = 0;

  constructor(text: string) {
    this.#wanted = new TextEncoder().encode(text);
    this.#fallback = fallbackTable(this.#wanted);
  }

  /** Takes the next bytes; true once, when the text is complete for the first time. */
  push(bytes: Uint8Array): boolean {
    if (this.#matched === this.#wanted.length) return false;
    for (const byte of bytes) {
      while (this.#matched > 0 && byte !== this.#wanted[this.#matched]) {
        this.#matched = this.#fallback[this.#matched - 1] as number;
      }
      if (byte === this.#wanted[this.#matched]) this.#matched++;
      if (this.#matched === this.#wanted.length) return true;
    }
    return false;
  }
}

function fallbackTable(text: Uint8Array): Uint16Array {
  const table = new Uint16Array(text.length);
  let length = 0;
  for (let i = 1; i < text.length; i++) {
    while (length > 0 && text[i] !== text[length]) length = table[length - 1] as number;
    if (text[i] === text[length]) length++;
    table[i] = length;
  }
  return table;
}
