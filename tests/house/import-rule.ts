import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";

/** The rooms of `src/`, in the order of the design: a room may import itself and those before it. */
export const ROOMS = [
  "arch",
  "wasm",
  "cpu",
  "platform",
  "bios",
  "tdx-module",
  "host",
  "vmm",
  "guests",
  "observe",
  "cli",
] as const;

/** From here on Node's own modules may be used; everything before also runs in a browser. */
const FIRST_NODE_ROOM = "cli";

/** The files of another room that a room is confined to: narrow doors between rooms that are otherwise in order. */
const DOORS: readonly { readonly from: string; readonly to: string; readonly only: RegExp; readonly why: string }[] = [
  {
    from: "tdx-module",
    to: "platform",
    only: /^platform\/(seam|event-bus)\.ts$/,
    why: "the module sees the platform only through platform/seam.ts",
  },
  { from: "host", to: "tdx-module", only: /^$/, why: "the host reaches the module only by SEAMCALL" },
  {
    from: "vmm",
    to: "tdx-module",
    only: /^tdx-module\/index\.ts$/,
    why: "the VMM puts the module in place, and reaches it only through KVM",
  },
];

const IMPORT = /^\s*(?:import|export)\b[^;]*?\bfrom\s*"([^"]+)"|^\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/gm;

/** The specifiers that a module imports. */
export function importsOf(text: string): string[] {
  return [...text.matchAll(IMPORT)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}

function* sourceFiles(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* sourceFiles(path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}

/** What one import breaks, in words, or undefined. Paths are relative to `src/`, with "/" and their real ending. */
export function brokenRule(file: string, imported: string): string | undefined {
  const from = file.split("/")[0] ?? "";
  const rank = (room: string) => ROOMS.indexOf(room as (typeof ROOMS)[number]);
  if (imported.startsWith("node:")) {
    return rank(from) < rank(FIRST_NODE_ROOM)
      ? `${file} imports ${imported}: rooms below cli run in a browser too`
      : undefined;
  }
  const to = imported.split("/")[0] ?? "";
  if (rank(to) < 0) return `${file} imports ${imported}, which lies in no room`;
  if (rank(to) > rank(from)) return `${file} imports ${imported}: ${from} comes before ${to}`;
  const door = DOORS.find((each) => each.from === from && each.to === to && !each.only.test(imported));
  return door === undefined ? undefined : `${file} imports ${imported}: ${door.why}`;
}

/** All broken imports below `src`. Tests and their support (`testing.ts`) may use Node and, to build what they test, any room. */
export function checkImports(src: string): string[] {
  const broken: string[] = [];
  for (const path of sourceFiles(src)) {
    if (path.endsWith(".test.ts") || path.endsWith(`${sep}testing.ts`)) continue;
    const file = relative(src, path).split(sep).join("/");
    for (const specifier of importsOf(readFileSync(path, "utf8"))) {
      if (!specifier.startsWith(".") && !specifier.startsWith("node:")) continue;
      const target = specifier.startsWith("node:")
        ? specifier
        : relative(src, resolve(dirname(path), specifier))
            .split(sep)
            .join("/")
            .replace(/\.js$/, ".ts");
      const rule = brokenRule(file, target);
      if (rule !== undefined) broken.push(rule);
    }
  }
  return broken;
}
