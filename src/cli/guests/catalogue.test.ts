import { describe, expect, it } from "vitest";
import { findFamily, imagePackage, isKernelImage, kernelsOf, requireFamily } from "./catalogue.js";

const NAMES = [
  "linux-image-6.12.9+deb13-cloud-amd64",
  "linux-image-6.12.117+deb13-cloud-amd64",
  "linux-image-6.12.117+deb13-cloud-amd64-dbg",
  "linux-image-6.12.118+deb13-cloud-amd64-unsigned",
  "linux-image-6.12.200+deb13-amd64",
  "linux-image-6.120.1+deb13-cloud-amd64",
  "linux-image-7.3.4+deb13-cloud-amd64",
  "linux-image-70.1.1+deb13-cloud-amd64",
  "linux-image-cloud-amd64",
];

describe("the catalogue of guests", () => {
  it("knows the short name", () => {
    expect(findFamily("debian")?.name).toBe("debian:6.12");
    expect(findFamily("debian:7")?.suite).toBe("trixie-backports");
    expect(() => requireFamily("debian:5")).toThrow('no Debian guest named "debian:5"');
  });

  it("finds the newest signed cloud kernel of a series, by number", () => {
    expect(kernelsOf("6.12", NAMES).map(({ version }) => version)).toEqual(["6.12.117", "6.12.9"]);
    expect(kernelsOf("7", NAMES).map(({ version }) => version)).toEqual(["7.3.4"]);
    expect(kernelsOf("6.18", NAMES)).toEqual([]);
  });

  it("looks for the image where the package split has put it", () => {
    const split = new Set(["linux-binary-7.3.4+deb13-cloud-amd64"]);
    expect(imagePackage("linux-image-7.3.4+deb13-cloud-amd64", split)).toBe("linux-binary-7.3.4+deb13-cloud-amd64");
    expect(imagePackage("linux-image-6.12.9+deb13-cloud-amd64", split)).toBe("linux-image-6.12.9+deb13-cloud-amd64");
  });

  it.each([
    ["./boot/vmlinuz-6.12.117+deb13-cloud-amd64", true],
    ["./usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz", true],
    ["./boot/config-6.12.117+deb13-cloud-amd64", false],
    ["./usr/lib/modules/7.3.4+deb13-cloud-amd64/kernel/vmlinuz", false],
  ])("%s is a kernel image: %s", (path, expected) => {
    expect(isKernelImage(path)).toBe(expected);
  });
});
