import { describe, expect, it } from "vitest";
import { debianArchive, parseDeb822, parseOneLine, sourceFor } from "./apt-sources.js";

const DEB822 = `# our mirror
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
# a comment between fields
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: sid
Components: main
`;

const EMBEDDED = `Types: deb
URIs: https://mirror.example/debian
Suites: stable
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY
 -----END PGP PUBLIC KEY BLOCK-----
`;

describe("apt sources", () => {
  it("reads one-line entries with options and comments", () => {
    const text = `
# deb http://off.example/debian sid main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian bookworm main contrib # ours
deb cdrom:[Debian 12]/ bookworm main
`;
    expect(parseOneLine(text)[0]).toEqual({
      uris: ["http://mirror.example/debian"],
      suites: ["bookworm"],
      components: ["main", "contrib"],
      signedBy: "/keys/debian.gpg",
    });
  });

  it("reads deb822 stanzas, without what is off or for sources", () => {
    const sources = parseDeb822(DEB822);
    expect(sources).toHaveLength(2);
    expect(sources[0]).toEqual({
      uris: ["http://mirror.example/debian"],
      suites: ["bookworm", "bookworm-updates"],
      components: ["main", "contrib"],
      signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
    });
  });

  it("picks Debian's main archive", () => {
    expect(debianArchive(parseDeb822(DEB822))?.uris).toEqual(["http://mirror.example/debian"]);
    expect(
      debianArchive(parseOneLine("deb http://mirror.example/debian-security stable/updates main")),
    ).toBeUndefined();
    expect(debianArchive(parseOneLine("deb http://mirror.example/ubuntu noble main"))).toBeUndefined();
    expect(debianArchive(parseOneLine("deb cdrom:[x]/ bookworm main"))).toBeUndefined();
  });

  it("writes a source of another suite, keys and all", () => {
    const [source] = parseDeb822(EMBEDDED);
    const written = sourceFor(source as NonNullable<typeof source>, "trixie");
    expect(written).toContain("Suites: trixie\n");
    expect(parseDeb822(written)[0]?.signedBy).toContain("BEGIN PGP PUBLIC KEY BLOCK");
    expect(parseDeb822(written)[0]?.signedBy).toContain("\n mDMEY");
  });
});
