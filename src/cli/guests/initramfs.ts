import { type CpioEntry, writeCpio } from "./cpio.js";

/** What /init prints when user space runs; the benchmark and the tour wait for it. */
export const USER_SPACE_LINE = "seamless: user space is up";

/**
 * /init: mounts what a shell expects, says that user space is up, runs /etc/rc if there is one, then a shell on the
 * console until it ends; then powers off. busybox finds its own applets by name.
 */
const INIT = `#!/bin/busybox sh
export PATH=/bin HOME=/root TERM=\${TERM:-vt100}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "${USER_SPACE_LINE}"
[ -e /etc/rc ] && . /etc/rc
cd /root
export PS1='td:\\w# '
setsid cttyhack sh
poweroff -f
`;

const DIRECTORIES = ["bin", "dev", "etc", "proc", "root", "sys", "tmp"];

/** Names that scripts call by their full path. */
const LINKS = ["sh", "mount", "poweroff", "cat", "ls"];

export interface InitramfsParts {
  /** A statically linked busybox. */
  readonly busybox: Uint8Array;
  /** Shell text that /init runs before the shell. */
  readonly rc?: string;
}

/** The initramfs of the Debian guests, the same bytes for the same parts. */
export function makeInitramfs({ busybox, rc }: InitramfsParts): Uint8Array {
  const text = new TextEncoder();
  const entries: CpioEntry[] = [
    ...DIRECTORIES.map((path): CpioEntry => ({ kind: "directory", path })),
    { kind: "character-device", path: "dev/console", major: 5, minor: 1 },
    { kind: "file", path: "bin/busybox", data: busybox, mode: 0o755 },
    ...LINKS.map((name): CpioEntry => ({ kind: "link", path: `bin/${name}`, target: "busybox" })),
    { kind: "file", path: "init", data: text.encode(INIT), mode: 0o755 },
  ];
  if (rc !== undefined) entries.push({ kind: "file", path: "etc/rc", data: text.encode(rc) });
  return writeCpio(entries);
}
