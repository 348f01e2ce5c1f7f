import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from "iced-x86";
import { describe, expect, it } from "vitest";
import * as x from "./index.js";
import { Assembler, byte, type CodeBits, dword, qword, word } from "./index.js";
import { SIMPLE_INSTRUCTIONS, STRING_INSTRUCTIONS, type StringMnemonic } from "./simple-instructions.js";

const ORIGIN = 0x1000;

/** What an independent decoder reads in our bytes. */
function disassemble(bytes: Uint8Array, bits: CodeBits, address = ORIGIN): string[] {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None);
  decoder.ip = BigInt(address);
  const formatter = new Formatter(FormatterSyntax.Nasm);
  formatter.hexPrefix = "0x";
  formatter.hexSuffix = "";
  const lines: string[] = [];
  while (decoder.canDecode) {
    const instruction = decoder.decode();
    lines.push(formatter.format(instruction));
    instruction.free();
  }
  formatter.free();
  decoder.free();
  return lines;
}

function assemble(bits: CodeBits, source: (asm: Assembler) => void): string[] {
  const asm = new Assembler({ origin: ORIGIN, bits });
  source(asm);
  return disassemble(asm.finish(), bits);
}

type Row = readonly [source: (asm: Assembler) => void, text: string];

const LONG: readonly Row[] = [
  [(a) => a.mov(x.rax, 5n), "mov rax,5"],
  [(a) => a.mov(x.r9, -1n), "mov r9,0xFFFFFFFFFFFFFFFF"],
  [(a) => a.mov(x.r15, 0x8000_0000n), "mov r15,0x80000000"],
  [(a) => a.mov(x.rbx, 0x1234_5678_9abc_def0n), "mov rbx,0x123456789ABCDEF0"],
  [(a) => a.mov(x.eax, 0xffff_fff0n), "mov eax,0xFFFFFFF0"],
  [(a) => a.mov(x.r10w, 0x1234), "mov r10w,0x1234"],
  [(a) => a.mov(x.sil, 7), "mov sil,7"],
  [(a) => a.mov(x.ah, 7), "mov ah,7"],
  [(a) => a.mov(x.rcx, x.r8), "mov rcx,r8"],
  [(a) => a.mov(x.spl, x.r12b), "mov spl,r12b"],
  [(a) => a.mov(x.r13d, x.edx), "mov r13d,edx"],
  [(a) => a.mov(x.rax, qword(x.rbx)), "mov rax,[rbx]"],
  [(a) => a.mov(qword(x.rsp, 8), x.rax), "mov [rsp+8],rax"],
  [(a) => a.mov(x.rax, qword(x.rbp)), "mov rax,[rbp]"],
  [(a) => a.mov(x.rax, qword(x.r13)), "mov rax,[r13]"],
  [(a) => a.mov(x.rax, qword(x.r12)), "mov rax,[r12]"],
  [(a) => a.mov(x.al, byte(x.rax, { index: x.r9, scale: 4, displacement: 0x1000 })), "mov al,[rax+r9*4+0x1000]"],
  [(a) => a.mov(x.eax, dword(0x7000)), "mov eax,[0x7000]"],
  [(a) => a.mov(x.eax, dword(x.ebx, 4)), "mov eax,[ebx+4]"],
  [(a) => a.mov(x.rax, qword(x.rax, { segment: x.gs, displacement: 16 })), "mov rax,[gs:rax+0x10]"],
  [(a) => a.mov(dword(x.rdi, 4), 0x12345678), "mov dword [rdi+4],0x12345678"],
  [(a) => a.mov(qword(x.rdi), -2n), "mov qword [rdi],0xFFFFFFFFFFFFFFFE"],
  [(a) => a.mov(byte(x.rdi), 3), "mov byte [rdi],3"],
  [(a) => a.mov(word(x.rdi), 0xbeef), "mov word [rdi],0xBEEF"],
  [(a) => a.mov(x.ds, x.ax), "mov ds,eax"],
  [(a) => a.mov(x.ecx, x.ss), "mov ecx,ss"],
  [(a) => a.mov(x.cr3, x.rax), "mov cr3,rax"],
  [(a) => a.mov(x.r8, x.cr4), "mov r8,cr4"],
  [(a) => a.mov(x.cr8, x.rdx), "mov cr8,rdx"],
  [(a) => a.mov(x.dr7, x.rbx), "mov dr7,rbx"],
  [(a) => a.movzx(x.eax, byte(x.rsi)), "movzx eax,byte [rsi]"],
  [(a) => a.movzx(x.rax, x.cx), "movzx rax,cx"],
  [(a) => a.movsx(x.rax, x.sil), "movsx rax,sil"],
  [(a) => a.movsxd(x.rax, x.ecx), "movsxd rax,ecx"],
  [(a) => a.lea(x.rdi, byte(x.rdi, { index: x.rax, scale: 8, displacement: -4 })), "lea rdi,[rdi+rax*8-4]"],
  [(a) => a.xchg(qword(x.rbx), x.rax), "xchg rax,[rbx]"],
  [(a) => a.cmpxchg(dword(x.rbx), x.ecx), "cmpxchg [rbx],ecx"],
  [(a) => a.xadd(qword(x.rbx), x.rcx), "xadd [rbx],rcx"],
  [(a) => a.bswap(x.r11), "bswap r11"],
  [(a) => a.cmov("ne", x.rax, x.rbx), "cmovne rax,rbx"],
  [(a) => a.set("b", x.dil), "setb dil"],
  [(a) => a.movdir64b(x.rdi, qword(x.rsi)), "movdir64b rdi,[rsi]"],
  [(a) => a.movdiri(dword(x.rdi), x.eax), "movdiri [rdi],eax"],
  [(a) => a.push(x.r14), "push r14"],
  [(a) => a.push(x.bx), "push bx"],
  [(a) => a.push(-3), "push 0xFFFFFFFFFFFFFFFD"],
  [(a) => a.push(0x12345), "push 0x12345"],
  [(a) => a.push(qword(x.rax)), "push qword [rax]"],
  [(a) => a.pop(x.r8), "pop r8"],
  [(a) => a.pop(qword(x.rax)), "pop qword [rax]"],
  [(a) => a.add(x.rax, 1n), "add rax,1"],
  [(a) => a.add(x.rax, x.r9), "add rax,r9"],
  [(a) => a.or(x.r9d, 0x80000000), "or r9d,0x80000000"],
  [(a) => a.adc(dword(x.rbx), x.eax), "adc [rbx],eax"],
  [(a) => a.sbb(x.eax, dword(x.rbx)), "sbb eax,[rbx]"],
  [(a) => a.and(x.rsp, -16n), "and rsp,0xFFFFFFFFFFFFFFF0"],
  [(a) => a.sub(x.cl, 0x80), "sub cl,0x80"],
  [(a) => a.xor(x.ax, 0xffff), "xor ax,0xFFFF"],
  [(a) => a.cmp(qword(x.r10, 8), 0x1000), "cmp qword [r10+8],0x1000"],
  [(a) => a.test(x.al, 0x20), "test al,0x20"],
  [(a) => a.test(x.rsi, x.rsi), "test rsi,rsi"],
  [(a) => a.test(dword(x.rax), 0xf0000000), "test dword [rax],0xF0000000"],
  [(a) => a.inc(x.rcx), "inc rcx"],
  [(a) => a.dec(dword(x.rcx)), "dec dword [rcx]"],
  [(a) => a.not(x.rcx), "not rcx"],
  [(a) => a.neg(x.bl), "neg bl"],
  [(a) => a.mul(x.r9), "mul r9"],
  [(a) => a.div(x.ecx), "div ecx"],
  [(a) => a.idiv(qword(x.rcx)), "idiv qword [rcx]"],
  [(a) => a.imul(x.rcx), "imul rcx"],
  [(a) => a.imul(x.rax, x.rcx), "imul rax,rcx"],
  [(a) => a.imul(x.rax, x.rcx, 100), "imul rax,rcx,0x64"],
  [(a) => a.imul(x.eax, dword(x.rcx), 1000), "imul eax,[rcx],0x3E8"],
  [(a) => a.shl(x.rax, 12), "shl rax,0xC"],
  [(a) => a.shr(x.eax, 1), "shr eax,1"],
  [(a) => a.sar(x.r8, x.cl), "sar r8,cl"],
  [(a) => a.rol(x.ax, 8), "rol ax,8"],
  [(a) => a.ror(byte(x.rax), x.cl), "ror byte [rax],cl"],
  [(a) => a.bt(x.rax, 63), "bt rax,0x3F"],
  [(a) => a.bts(x.eax, x.ecx), "bts eax,ecx"],
  [(a) => a.btr(dword(x.rax), 5), "btr dword [rax],5"],
  [(a) => a.btc(x.rax, x.rdx), "btc rax,rdx"],
  [(a) => a.jmp(x.rax), "jmp rax"],
  [(a) => a.jmp(qword(x.rax, { index: x.rcx, scale: 8 })), "jmp qword [rax+rcx*8]"],
  [(a) => a.call(x.r11), "call r11"],
  [(a) => a.jmpFarIndirect(qword(x.rax)), "jmp far [rax]"],
  [(a) => a.retPop(16), "ret 0x10"],
  [(a) => a.int(0x80), "int 0x80"],
  [(a) => a.in(x.al, x.dx), "in al,dx"],
  [(a) => a.in(x.eax, 0x40), "in eax,0x40"],
  [(a) => a.out(x.dx, x.ax), "out dx,ax"],
  [(a) => a.out(0x80, x.al), "out 0x80,al"],
  [(a) => a.lgdt(qword(x.rax)), "lgdt [rax]"],
  [(a) => a.lidt(qword(x.rax)), "lidt [rax]"],
  [(a) => a.sgdt(qword(x.rax)), "sgdt [rax]"],
  [(a) => a.sidt(qword(x.rax)), "sidt [rax]"],
  [(a) => a.lldt(x.ax), "lldt ax"],
  [(a) => a.ltr(x.cx), "ltr cx"],
  [(a) => a.invlpg(byte(x.rax)), "invlpg [rax]"],
  [(a) => a.clflush(byte(x.rax)), "clflush [rax]"],
  [(a) => a.ldmxcsr(dword(x.rax)), "ldmxcsr [rax]"],
  [(a) => a.stmxcsr(dword(x.rax)), "stmxcsr [rax]"],
  [(a) => a.fxsave(byte(x.rax)), "fxsave [rax]"],
  [(a) => a.fxrstor(byte(x.rax)), "fxrstor [rax]"],
  [(a) => a.rdrand(x.rax), "rdrand rax"],
  [(a) => a.rdseed(x.ecx), "rdseed ecx"],
  [
    (a) => {
      a.lock();
      a.add(qword(x.rbx), x.rax);
    },
    "lock add [rbx],rax",
  ],
];

const PROTECTED: readonly Row[] = [
  [(a) => a.mov(x.eax, 0x21n), "mov eax,0x21"],
  [(a) => a.mov(x.esi, dword(0xffff_e000)), "mov esi,[0xFFFFE000]"],
  [(a) => a.mov(dword(x.ebx, { index: x.esi, scale: 2 }), x.eax), "mov [ebx+esi*2],eax"],
  [(a) => a.mov(x.cr0, x.eax), "mov cr0,eax"],
  [(a) => a.mov(x.eax, x.cr4), "mov eax,cr4"],
  [(a) => a.push(x.ebx), "push ebx"],
  [(a) => a.pop(dword(x.ebx)), "pop dword [ebx]"],
  [(a) => a.inc(x.ecx), "inc ecx"],
  [(a) => a.jmp(x.ecx), "jmp ecx"],
  [(a) => a.call(dword(x.ecx)), "call dword [ecx]"],
  [(a) => a.jmpFar(0x10, 0xffff_f000), "jmp 0x0010:0xFFFFF000"],
  [(a) => a.lgdt(dword(0xffff_f080)), "lgdt [0xFFFFF080]"],
  [(a) => a.or(x.eax, 0x8000_0000), "or eax,0x80000000"],
];

describe("one instruction each, as an independent decoder reads it", () => {
  it.each(LONG.map(([source, text]) => [text, source] as const))("64-bit: %s", (text, source) => {
    expect(assemble(64, source)).toEqual([text]);
  });

  it.each(PROTECTED.map(([source, text]) => [text, source] as const))("32-bit: %s", (text, source) => {
    expect(assemble(32, source)).toEqual([text]);
  });

  const simple = Object.keys(SIMPLE_INSTRUCTIONS) as (keyof typeof SIMPLE_INSTRUCTIONS)[];
  it.each(simple)("%s", (mnemonic) => {
    const plain: Record<string, string> = { iretd: "iret", sysretq: "o64 sysret" };
    expect(assemble(64, (asm) => asm.op(mnemonic))).toEqual([plain[mnemonic] ?? mnemonic]);
  });

  it.each(Object.keys(STRING_INSTRUCTIONS) as StringMnemonic[])("%s", (mnemonic) => {
    expect(assemble(64, (asm) => asm.string(mnemonic))).toEqual([mnemonic]);
    if (!/^(cmps|scas)/.test(mnemonic)) {
      expect(assemble(64, (asm) => asm.string(mnemonic, "rep"))).toEqual([`rep ${mnemonic}`]);
    } else {
      expect(assemble(64, (asm) => asm.string(mnemonic, "repne"))).toEqual([`repne ${mnemonic}`]);
    }
  });
});

describe("memory operands", () => {
  const registers = [x.rax, x.rcx, x.rdx, x.rbx, x.rsp, x.rbp, x.rsi, x.rdi, x.r8, x.r9, x.r10, x.r11, x.r12, x.r13];
  const displacements = [0, 1, -1, 127, -128, 128, -129, 0x7fff_ffff, -0x8000_0000];
  const signed = (value: number) => {
    if (value === 0) return "";
    const magnitude = Math.abs(value);
    return (value < 0 ? "-" : "+") + (magnitude < 10 ? magnitude : `0x${magnitude.toString(16).toUpperCase()}`);
  };

  it("reach every base, index, scale and size of displacement", () => {
    const asm = new Assembler({ origin: ORIGIN, bits: 64 });
    const expected: string[] = [];
    for (const base of registers) {
      for (const displacement of displacements) {
        asm.mov(x.rdx, qword(base, displacement));
        expected.push(`mov rdx,[${base.name}${signed(displacement)}]`);
        for (const index of registers) {
          if (index === x.rsp) continue;
          for (const scale of [1, 2, 4, 8] as const) {
            asm.mov(x.rdx, qword(base, { index, scale, displacement }));
            const scaled = scale === 1 ? index.name : `${index.name}*${scale}`;
            expected.push(`mov rdx,[${base.name}+${scaled}${signed(displacement)}]`);
          }
        }
      }
    }
    expect(disassemble(asm.finish(), 64)).toEqual(expected);
  });
});

describe("labels", () => {
  it("branch short to a place close behind and near otherwise", () => {
    const lines = assemble(64, (asm) => {
      const ahead = asm.label("ahead");
      const behind = asm.here("behind");
      asm.jmp(behind);
      asm.j("ne", behind);
      asm.j("e", ahead);
      asm.jmp(ahead);
      asm.call(behind);
      asm.loop(behind);
      asm.loope(behind);
      asm.loopne(behind);
      asm.jrcxz(behind);
      asm.bind(ahead);
    });
    expect(lines).toEqual([
      "jmp short 0x0000000000001000",
      "jne short 0x0000000000001000",
      "je near 0x000000000000101C",
      "jmp 0x000000000000101C",
      "call 0x0000000000001000",
      "loop 0x0000000000001000",
      "loope 0x0000000000001000",
      "loopne 0x0000000000001000",
      "jrcxz 0x0000000000001000",
    ]);
  });

  it("are reached relative to RIP in 64-bit code, whatever follows the displacement", () => {
    const lines = assemble(64, (asm) => {
      const data = asm.label("data");
      asm.lea(x.rax, byte(data));
      asm.mov(dword(data), 0x1234);
      asm.cmp(byte(data), 1);
      asm.mov(x.rbx, data);
      asm.bind(data);
    });
    expect(lines).toEqual([
      "lea rax,[rel 0x1022]",
      "mov dword [rel 0x1022],0x1234",
      "cmp byte [rel 0x1022],1",
      "mov rbx,0x1022",
    ]);
  });

  it("are absolute in 32-bit code", () => {
    const lines = assemble(32, (asm) => {
      const data = asm.label("data");
      asm.lgdt(dword(data));
      asm.jmpFar(8, data);
      asm.bind(data);
    });
    expect(lines).toEqual(["lgdt [0x100E]", "jmp 8:0x0000100E"]);
  });

  it("fill data", () => {
    const asm = new Assembler({ origin: ORIGIN, bits: 64 });
    asm.db(1, "AB", Uint8Array.of(9));
    asm.align(8, 0x90);
    const here = asm.here("here");
    asm.dq(here);
    asm.dd(here, -1);
    asm.dw(0xffff);
    asm.padTo(ORIGIN + 28);
    expect([...asm.finish()]).toEqual(
      [1, 0x41, 0x42, 9, 0x90, 0x90, 0x90, 0x90, 8, 0x10, 0, 0, 0, 0, 0, 0].concat([
        8, 0x10, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0,
      ]),
    );
  });
});

describe("what has no encoding is refused", () => {
  const refused: readonly (readonly [string, CodeBits, (asm: Assembler) => void])[] = [
    ["ah with REX", 64, (a) => a.mov(x.ah, x.r8b)],
    ["64-bit operand in 32-bit code", 32, (a) => a.mov(x.rax, x.rbx)],
    ["upper register in 32-bit code", 32, (a) => a.mov(x.r8d, x.eax)],
    ["immediate too wide", 64, (a) => a.add(x.rax, 0x8000_0000n)],
    ["immediate too wide for a byte", 64, (a) => a.add(x.al, 0x100)],
    ["64-bit immediate to memory", 64, (a) => a.mov(qword(x.rax), 0x8000_0000n)],
    ["rsp as index", 64, (a) => a.mov(x.rax, qword(x.rax, { index: x.rsp }))],
    ["absolute address beyond 31 bits", 64, (a) => a.mov(x.eax, dword(0xffff_f000))],
    ["far jump in 64-bit code", 64, (a) => a.jmpFar(8, 0)],
    ["port in bx", 64, (a) => a.in(x.al, x.bx)],
    ["shift by dl", 64, (a) => a.shl(x.rax, x.dl)],
    ["push of 32 bits in 64-bit code", 64, (a) => a.push(x.eax)],
    ["text beyond ASCII", 64, (a) => a.db("é")],
  ];
  it.each(refused)("%s", (_name, bits, source) => {
    expect(() => source(new Assembler({ bits }))).toThrow(x.AssemblerError);
  });

  it("a label that is never bound, bound twice, or too far away", () => {
    const unbound = new Assembler({ bits: 64 });
    unbound.jmp(unbound.label("nowhere"));
    expect(() => unbound.finish()).toThrow("nowhere is used but never bound");

    const twice = new Assembler({ bits: 64 });
    const label = twice.here("twice");
    expect(() => twice.bind(label)).toThrow("bound twice");

    const far = new Assembler({ bits: 64 });
    const start = far.here("start");
    far.padTo(200);
    far.loop(start);
    expect(() => far.finish()).toThrow("too far for a short branch");
  });
});
