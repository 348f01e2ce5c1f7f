import * as x from "../../arch/assembler/index.js";
import { qword } from "../../arch/assembler/index.js";
import { PAGE_SIZE } from "../../arch/page.js";
import { LEVEL_2M } from "../../vmm/shim/accept-memory.js";
import { tdcall } from "../../vmm/shim/tdx-calls.js";
import { defineSmallTd } from "../runtime/define.js";
import type { GuestCode } from "../runtime/guest-code.js";
import { SMALL_TD } from "../runtime/layout.js";

/** Memory: acceptance, and conversion between private and shared. */

const MIB = 1 << 20;

/** TDG.MEM.PAGE.ACCEPT, and bits 63:32 of its status in RAX. */
function accept(code: GuestCode, gpa: number, level = 0): void {
  code.asm.mov(x.rcx, gpa | level);
  tdcall(code.asm, "MEM_PAGE_ACCEPT");
  code.asm.shr(x.rax, 32);
}

/** The host adds a page when the guest first asks to accept it, and only by 4 KiB. */
export const lateAccept = defineSmallTd({
  name: "accept",
  summary: "accepts a page on demand, once more, and as a 2 MiB page: success, already accepted, size mismatch",
  console: "0000000000000000\n0000000000000b0a\n00000000c0000b0b\n",
  memory: 4 * MIB,
  accepted: MIB,
  main(code) {
    for (const [gpa, level] of [
      [MIB, 0],
      [MIB, 0],
      [2 * MIB, LEVEL_2M],
    ] as const) {
      accept(code, gpa, level);
      code.printHex();
      code.print("\n");
    }
    code.powerOff();
  },
});

const PAGE = 0x4_0000;
const DIRECTORY = 0x5_0000;
/** With a GPA width of 48. */
const SHARED_BIT = 1n << 47n;
/** Where the guest maps the first 2 MiB a second time, as shared memory. */
const SHARED_ALIAS = 0x1_0000_0000;
const PDPT_ENTRY = SMALL_TD.PAGE_TABLES + PAGE_SIZE + 8 * (SHARED_ALIAS / 2 ** 30);
const SECRET = 0x7365_6372_6574n;
const PUBLIC = 0x7075_626c_6963n;

export const conversion = defineSmallTd({
  name: "map-gpa",
  summary: "makes a page shared and private again: each time its contents are gone",
  console: [
    "private: 0000736563726574",
    "shared:  0000000000000000",
    "shared:  00007075626c6963",
    "private: 0000000000000000",
    "",
  ].join("\n"),
  main(code) {
    const { asm } = code;
    const show = (text: string, address: number) => {
      code.print(text);
      asm.mov(x.rdi, address);
      asm.mov(x.rax, qword(x.rdi));
      code.printHex();
      code.print("\n");
    };
    const store = (address: number, value: bigint) => {
      asm.mov(x.rdi, address);
      asm.mov(x.rax, value);
      asm.mov(qword(x.rdi), x.rax);
    };
    const PRESENT_WRITABLE = 3n;
    const LARGE = 1n << 7n;
    store(DIRECTORY, SHARED_BIT | PRESENT_WRITABLE | LARGE);
    store(PDPT_ENTRY, BigInt(DIRECTORY) | PRESENT_WRITABLE);

    store(PAGE, SECRET);
    show("private: ", PAGE);
    code.vmcall("MAP_GPA", BigInt(PAGE) | SHARED_BIT, PAGE_SIZE);
    show("shared:  ", SHARED_ALIAS + PAGE);
    store(SHARED_ALIAS + PAGE, PUBLIC);
    show("shared:  ", SHARED_ALIAS + PAGE);
    code.vmcall("MAP_GPA", PAGE, PAGE_SIZE);
    accept(code, PAGE);
    show("private: ", PAGE);
    code.powerOff();
  },
});
