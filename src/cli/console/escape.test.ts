import { describe, expect, it } from "vitest";
import { EscapeFilter } from "./escape.js";

function typed(...pieces: string[]): { guest: string; commands: string[] } {
  const commands: string[] = [];
  const filter = new EscapeFilter((command) => commands.push(command));
  const guest = pieces.flatMap((piece) => filter.push(Buffer.from(piece, "latin1")));
  return { guest: Buffer.from(guest).toString("latin1"), commands };
}

describe("the escape key", () => {
  it.each([
    ["keys are the guest's, Ctrl-C too", ["ls\r\x03"], "ls\r\x03", []],
    ["Ctrl-A x ends", ["a\x01xb"], "ab", ["end"]],
    ["Ctrl-A ? helps", ["\x01?"], "", ["help"]],
    ["also when cut in two", ["\x01", "x"], "", ["end"]],
    ["Ctrl-A Ctrl-A is one Ctrl-A", ["\x01\x01x"], "\x01x", []],
    ["Ctrl-A and another key is nothing", ["\x01z1"], "1", []],
  ])("%s", (_, pieces, guest, commands) => {
    expect(typed(...pieces)).toEqual({ guest, commands });
  });
});
