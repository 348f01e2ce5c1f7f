import { describe, expect, it } from "vitest";
import { Board } from "./board.js";
import { IoApic, type MsiMessage } from "./io-apic.js";

function board() {
  const log: string[] = [];
  const messages: MsiMessage[] = [];
  const made = new Board({
    transmit: (byte) => log.push(String.fromCharCode(byte)),
    signalMsi: (message) => messages.push(message),
    powerOff: () => log.push("power-off"),
    reset: () => log.push("reset"),
    seconds: () => Date.UTC(2026, 10, 24, 13, 5, 59.9) / 1000,
  });
  return { made, ports: made.ports, mmio: made.mmio, serial: made.serial, log, messages };
}

describe("ports", () => {
  it("where nobody is read all-ones and take writes", () => {
    const { ports } = board();
    expect([ports.read(0x2f8, 1), ports.read(0x2f8, 2), ports.read(0x1234, 4)]).toEqual([0xff, 0xffff, 0xffff_ffff]);
    ports.write(0x80, 1, 0);
  });

  it("power off by the PM1 control register, S5 only", () => {
    const { ports, log } = board();
    ports.write(0x604, 2, (3 << 10) | 0x2000);
    ports.write(0x604, 2, 5 << 10);
    expect(log).toEqual([]);
    expect(ports.read(0x604, 2)).toBe(1);
    ports.write(0x604, 2, (5 << 10) | 0x2000);
    expect(log).toEqual(["power-off"]);
  });

  it("have PM1 events that can be enabled and never happen", () => {
    const { ports } = board();
    ports.write(0x602, 2, 0x120);
    ports.write(0x600, 2, 0xffff);
    expect([ports.read(0x600, 2), ports.read(0x602, 2)]).toEqual([0, 0x120]);
  });

  it.each([
    ["reset control", 0xcf9, 0x06],
    ["keyboard controller", 0x64, 0xfe],
  ])("reset by the %s", (_name, port, value) => {
    const { ports, log } = board();
    ports.write(port, 1, value & ~4);
    expect(log).toEqual([]);
    ports.write(port, 1, value);
    expect(log).toEqual(["reset"]);
  });

  it("show a PCI bus with nothing but the host bridge", () => {
    const { ports } = board();
    const config = (address: number) => {
      ports.write(0xcf8, 4, address);
      return ports.read(0xcfc, 4);
    };
    expect(config(0x8000_0000)).toBe(0x0d57_8086);
    expect(ports.read(0xcf8, 4)).toBe(0x8000_0000);
    expect(ports.read(0xcfe, 2)).toBe(0x0d57);
    expect(config(0x8000_0008)).toBe(0x0600_0000);
    expect(config(0x8000_0800)).toBe(0xffff_ffff);
    expect(config(0x0000_0000)).toBe(0xffff_ffff);
  });

  it("make every wait for a legacy timer end at once", () => {
    const { ports } = board();
    expect(ports.read(0x42, 1)).toBe(0);
    expect(ports.read(0x61, 1) & 0x20).toBe(0x20);
  });

  it("tell the time", () => {
    const { ports } = board();
    const register = (index: number) => {
      ports.write(0x70, 1, index);
      return ports.read(0x71, 1);
    };
    const time = [0x32, 9, 8, 7, 4, 2, 0].map((index) => register(index).toString(16).padStart(2, "0")).join(" ");
    expect(time).toBe("20 26 11 24 13 05 59");
    expect(register(6)).toBe(3);
    expect(register(0x0a) & 0x80).toBe(0);
    expect(register(0x0d)).toBe(0x80);
  });
});

describe("state", () => {
  it("is a value that another board can go on from", () => {
    const { made: first } = board();
    first.ports.write(0x70, 1, 0x0d);
    first.ports.write(0xcf8, 4, 0x8000_0008);
    first.ports.write(0x602, 2, 1);
    first.ports.write(0x3fc, 1, 0x08);
    first.ports.write(0x3f9, 1, 0x01);
    first.serial.receive(0x61);
    const { state } = first;
    const { made: second } = board();
    expect(second.state).not.toEqual(state);
    second.restore(JSON.parse(JSON.stringify(state)));
    expect(second.state).toEqual(state);
    expect(second.ports.read(0x3f8, 1)).toBe(0x61);
    expect(second.ports.read(0xcfc, 4)).toBe(0x0600_0000);
  });
});

describe("IOAPIC", () => {
  const SELECT = 0x00;
  const DATA = 0x10;

  function apic() {
    const sent: MsiMessage[] = [];
    const io = new IoApic((message) => sent.push(message));
    const write = (index: number, value: number) => {
      io.writeRegister(SELECT, index);
      io.writeRegister(DATA, value);
    };
    const read = (index: number) => {
      io.writeRegister(SELECT, index);
      return io.readRegister(DATA);
    };
    return { io, sent, write, read };
  }

  it("has 24 masked pins", () => {
    const { read } = apic();
    expect(read(1)).toBe(0x0017_0011);
    expect(read(0x10 + 2 * 23)).toBe(0x1_0000);
  });

  it("sends a message for each rise of a line", () => {
    const { io, sent, write } = apic();
    write(0x19, 0x0100_0000);
    write(0x18, 0x0831);
    io.setLine(4, true);
    io.setLine(4, true);
    io.setLine(4, false);
    expect(sent).toEqual([{ addressLo: 0xfee0_1004, addressHi: 0, data: 0x31 }]);
    io.setLine(4, true);
    expect(sent).toHaveLength(2);
  });

  it("keeps a rise that a mask holds back", () => {
    const { io, sent, write } = apic();
    io.setLine(4, true);
    expect(sent).toEqual([]);
    write(0x18, 0x31);
    expect(sent).toEqual([{ addressLo: 0xfee0_0000, addressHi: 0, data: 0x31 }]);
    write(0x18, 0x31);
    expect(sent).toHaveLength(1);
  });

  it("answers on the MMIO bus; elsewhere reads are all-ones", () => {
    const { mmio } = board();
    const data = new DataView(new ArrayBuffer(8));
    data.setUint32(0, 1, true);
    mmio.write(0xfec0_0000, 4, data);
    mmio.read(0xfec0_0010, 8, data);
    expect(data.getBigUint64(0, true)).toBe(0x17_0011n);
    mmio.read(0xfed0_0000, 8, data);
    expect(data.getBigUint64(0, true)).toBe(2n ** 64n - 1n);
  });

  it("carries the serial port's interrupt", () => {
    const { mmio, serial, messages, ports } = board();
    const data = new DataView(new ArrayBuffer(8));
    const write = (offset: number, value: number) => {
      data.setUint32(0, value, true);
      mmio.write(0xfec0_0000 + offset, 4, data);
    };
    write(0x00, 0x18);
    write(0x10, 0x41);
    ports.write(0x3fc, 1, 0x08);
    ports.write(0x3f9, 1, 0x01);
    serial.receive(0x61);
    expect(messages).toEqual([{ addressLo: 0xfee0_0000, addressHi: 0, data: 0x41 }]);
  });
});
