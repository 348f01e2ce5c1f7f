/**
 * The machine's own package sources, read only. The address of a Debian archive is taken from there and nowhere else, so
 * that a mirror, a proxy or an air gap that works for the machine works for us.
 */

/** One archive as the machine names it. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** `Signed-By` as written: key file, fingerprint or an embedded key block. */
  readonly signedBy?: string;
  /** `Trusted: yes` as written. */
  readonly trusted?: string;
}

/** Reads `sources.list` lines: `deb [option=value …] URI SUITE COMPONENT…`. */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    if (match === null) continue;
    const [, optionText = "", uri = "", suite = "", components = ""] = match;
    const options = new Map(optionText.split(/\s+/).map((option) => splitAt(option, "=")));
    sources.push(
      withKeys(
        { uris: [uri], suites: [suite], components: components.trim().split(/\s+/) },
        options.get("signed-by"),
        options.get("trusted"),
      ),
    );
  }
  return sources;
}

/** Reads deb822 stanzas (`Types:`, `URIs:`, `Suites:`, `Components:`, `Signed-By:`). */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  const withoutComments = text.replace(/^#.*\n?/gm, "");
  for (const stanza of withoutComments.split(/\n\s*\n/)) {
    const fields = stanzaFields(stanza);
    const words = (name: string) => (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
    if (!words("types").includes("deb") || /^(no|false|0)$/i.test(fields.get("enabled") ?? "")) continue;
    sources.push(
      withKeys(
        { uris: words("uris"), suites: words("suites"), components: words("components") },
        fields.get("signed-by"),
        fields.get("trusted"),
      ),
    );
  }
  return sources;
}

function stanzaFields(stanza: string): Map<string, string> {
  const fields = new Map<string, string>();
  let last = "";
  for (const line of stanza.split("\n")) {
    if (/^\s/.test(line)) {
      fields.set(last, `${fields.get(last) ?? ""}\n${line}`);
      continue;
    }
    const [name, value] = splitAt(line, ":");
    last = name.toLowerCase();
    if (last !== "") fields.set(last, value.trim());
  }
  return fields;
}

function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function withKeys(source: AptSource, signedBy: string | undefined, trusted: string | undefined): AptSource {
  return { ...source, ...(signedBy ? { signedBy } : {}), ...(trusted ? { trusted } : {}) };
}

const DEBIAN_SUITES = new Set(
  "oldoldstable oldstable stable testing unstable sid buster bullseye bookworm trixie forky duke".split(" "),
);

/** The first of the machine's sources that is Debian's main archive (not security, not another distribution's). */
export function debianArchive(sources: readonly AptSource[]): AptSource | undefined {
  return sources.find(
    (source) =>
      source.suites.some((suite) => DEBIAN_SUITES.has(suite)) &&
      source.components.includes("main") &&
      source.uris.some((uri) => !uri.startsWith("cdrom:") && !uri.includes("security")),
  );
}

/** A deb822 source of our own: the archive of `source`, one suite of our choice. */
export function sourceFor(source: AptSource, suite: string): string {
  const lines = ["Types: deb", `URIs: ${source.uris.join(" ")}`, `Suites: ${suite}`, "Components: main"];
  if (source.signedBy !== undefined) lines.push(`Signed-By: ${source.signedBy}`);
  if (source.trusted !== undefined) lines.push(`Trusted: ${source.trusted}`);
  return `${lines.join("\n")}\n`;
}
