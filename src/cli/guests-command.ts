import { usageError } from "./errors.js";
import { GuestCache } from "./guests/cache.js";
import { GUEST_FAMILIES, requireFamily } from "./guests/catalogue.js";
import { fetchGuest } from "./guests/fetch.js";
import type { Speaker } from "./speaker.js";

/** `seamless guests list`: one line per guest on stdout. */
export async function listGuests(smallTds: readonly { name: string; summary: string }[]): Promise<void> {
  const cache = new GuestCache();
  const lines: string[] = [];
  for (const { name, suite } of GUEST_FAMILIES) {
    const cached = await cache.read(name);
    const damaged = cached === undefined && (await cache.holds(name));
    const state = cached === undefined ? (damaged ? "damaged" : "not fetched") : `cached: ${cached.manifest.name}`;
    lines.push(`${name.padEnd(14)}${state.padEnd(26)}Debian's cloud kernel of ${suite} with a busybox shell`);
  }
  for (const { name, summary } of smallTds) lines.push(`${name.padEnd(14)}${"built in".padEnd(26)}${summary}`);
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** `seamless guests fetch`: the newest of each named family, whether or not one is cached. */
export async function fetchGuests(names: readonly string[], speaker: Speaker): Promise<void> {
  const families = (names.length === 0 ? ["debian"] : names).map(requireFamily);
  for (const family of families) await fetchGuest(new GuestCache(), family, (line) => speaker.say(line));
}

/** `seamless guests remove`. */
export async function removeGuests(names: readonly string[], all: boolean, speaker: Speaker): Promise<void> {
  if (names.length === 0 && !all) {
    throw usageError(
      "NO_GUEST",
      "guests remove needs a guest's name, or --all",
      "`seamless guests list` shows the guests",
    );
  }
  const families = all ? GUEST_FAMILIES : names.map(requireFamily);
  const cache = new GuestCache();
  for (const { name } of families) {
    const removed = await cache.remove(name);
    speaker.say(removed ? `removed ${name}` : `${name} was not in the cache`);
  }
}
