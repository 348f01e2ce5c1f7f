import { describe, expect, it } from "vitest";
import { SerialPort } from "./serial-port.js";

const BASE = 0x3f8;

function port() {
  const sent: number[] = [];
  const levels: boolean[] = [];
  const serial = new SerialPort(BASE, {
    transmit: (byte) => sent.push(byte),
    setInterrupt: (level) => levels.push(level),
  });
  const read = (register: number) => serial.readPort(BASE + register, 1);
  const write = (register: number, value: number) => serial.writePort(BASE + register, 1, value);
  return { serial, sent, levels, read, write };
}

describe("16550A", () => {
  it("transmits at once", () => {
    const { sent, read, write } = port();
    write(0, 0x41);
    expect(sent).toEqual([0x41]);
    expect(read(5)).toBe(0x60);
  });

  it("keeps the divisor apart from data and interrupt enable", () => {
    const { sent, read, write } = port();
    write(3, 0x83);
    write(0, 0x01);
    write(1, 0x02);
    expect([read(0), read(1)]).toEqual([1, 2]);
    write(3, 0x03);
    expect(read(1)).toBe(0);
    expect(sent).toEqual([]);
  });

  it("is recognised as a 16550A with FIFOs, scratch register and loop mode", () => {
    const { read, write } = port();
    write(7, 0x5a);
    expect(read(7)).toBe(0x5a);
    write(2, 0x01);
    expect(read(2)).toBe(0xc1);
    write(4, 0x1a);
    expect(read(6) & 0xf0).toBe(0x90);
    write(0, 0x55);
    expect(read(0)).toBe(0x55);
  });

  it("interrupts for received bytes, through OUT2 only", () => {
    const { serial, levels, read, write } = port();
    write(2, 0x01);
    write(1, 0x01);
    serial.receive(0x61);
    expect(levels).toEqual([]);
    write(4, 0x08);
    expect(levels).toEqual([true]);
    expect(read(2)).toBe(0xc4);
    expect(read(5) & 1).toBe(1);
    expect(read(0)).toBe(0x61);
    expect(levels).toEqual([true, false]);
    expect(read(2)).toBe(0xc1);
  });

  it("tells a byte below the trigger level by the timeout interrupt", () => {
    const { serial, read, write } = port();
    write(2, 0xc1);
    write(1, 0x01);
    serial.receive(0x61);
    expect(read(2)).toBe(0xcc);
  });

  it("interrupts when the transmitter runs empty, until somebody looks", () => {
    const { levels, read, write } = port();
    write(4, 0x08);
    write(1, 0x02);
    expect(levels).toEqual([true]);
    expect(read(2)).toBe(0x02);
    expect(levels).toEqual([true, false]);
    write(0, 0x41);
    expect(levels).toEqual([true, false, true]);
  });

  it("holds 16 bytes and marks an overrun once", () => {
    const { serial, read, write } = port();
    write(2, 0x01);
    for (let byte = 0; byte < 17; byte++) serial.receive(byte);
    expect(read(5) & 3).toBe(3);
    expect(read(5) & 3).toBe(1);
    expect(Array.from({ length: 16 }, () => read(0))).toEqual(Array.from({ length: 16 }, (_, byte) => byte));
    expect(read(5) & 1).toBe(0);
  });

  it("wants input when its driver listens and has taken all", () => {
    const { serial, read, write } = port();
    expect(serial.wantsInput).toBe(false);
    write(1, 0x05);
    expect(serial.wantsInput).toBe(true);
    serial.receive(1);
    expect(serial.wantsInput).toBe(false);
    read(0);
    expect(serial.wantsInput).toBe(true);
  });
});
