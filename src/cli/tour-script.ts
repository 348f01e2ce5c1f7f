import { createHash } from "node:crypto";

/** Texts by which the guest tells the tour where it is; Debian's /etc/rc and the small TD print the same. */
export const TOUR_TEXT = {
  computing: "tour: computing",
  answer: "tour: the answer is ",
  goingOn: "tour: going on",
} as const;

const LAST_NUMBER = 150_000;

/** What the guest computes in Debian's tour. */
export const DEBIAN_TASK = `the SHA-256 of the numbers from 1 to ${LAST_NUMBER}`;

/** /etc/rc of the tour's initramfs. */
export const TOUR_RC = `echo "${TOUR_TEXT.computing} ${DEBIAN_TASK}"
sum=$(seq 1 ${LAST_NUMBER} | sha256sum)
echo "${TOUR_TEXT.answer}\${sum%% *}"
echo "${TOUR_TEXT.goingOn}"
seq 1 100000000 | sha256sum
`;

/** What it must come to, computed on this side. */
export function debianAnswer(): string {
  const hash = createHash("sha256");
  for (let n = 1; n <= LAST_NUMBER; n++) hash.update(`${n}\n`);
  return hash.digest("hex");
}
