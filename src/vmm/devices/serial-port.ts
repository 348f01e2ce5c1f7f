import type { PortDevice } from "./port-bus.js";

/** Registers of a 16550A, by offset; two share an offset by direction, two by LCR.DLAB. */
const REGISTER = { DATA: 0, IER: 1, IIR_FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCR: 7 } as const;

const IER = { RECEIVED: 1 << 0, TRANSMITTER_EMPTY: 1 << 1, MASK: 0x0f } as const;
/** Interrupt identification, in falling priority. */
const IIR = { RECEIVED: 0x04, TIMEOUT: 0x0c, TRANSMITTER_EMPTY: 0x02, NONE: 0x01, FIFOS: 0xc0 } as const;
const FCR = { ENABLE: 1 << 0, CLEAR_RECEIVER: 1 << 1, TRIGGER_SHIFT: 6 } as const;
const LCR_DLAB = 1 << 7;
const MCR = { DTR: 1 << 0, RTS: 1 << 1, OUT1: 1 << 2, OUT2: 1 << 3, LOOP: 1 << 4, MASK: 0x1f } as const;
const LSR = { DATA_READY: 1 << 0, OVERRUN: 1 << 1, HOLDING_EMPTY: 1 << 5, EMPTY: 1 << 6 } as const;
const MSR = { CTS: 1 << 4, DSR: 1 << 5, RI: 1 << 6, DCD: 1 << 7 } as const;

const FIFO_SIZE = 16;
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;
/** Divisor after reset: 9600 baud. */
const RESET_DIVISOR = 12;

/** The serial port as a value. */
export interface SerialPortState {
  readonly received: readonly number[];
  readonly ier: number;
  readonly fcr: number;
  readonly lcr: number;
  readonly mcr: number;
  readonly scratch: number;
  readonly divisor: number;
  readonly overrun: boolean;
  readonly transmitterInterrupt: boolean;
  readonly level: boolean;
}

/** What a serial port is wired to. */
export interface SerialWiring {
  /** A byte leaves the port. */
  transmit(byte: number): void;
  /** The interrupt line changes. */
  setInterrupt(level: boolean): void;
}

/** A 16550A UART whose transmitter takes no time. */
export class SerialPort implements PortDevice {
  #received: number[] = [];
  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  #scratch = 0;
  #divisor = RESET_DIVISOR;
  #overrun = false;
  /** "Transmitter holding register empty" has not been seen yet. */
  #transmitterInterrupt = false;
  #level = false;

  constructor(
    private readonly base: number,
    private readonly wiring: SerialWiring,
  ) {}

  /** The driver has enabled receive interrupts and has taken all that came. */
  get wantsInput(): boolean {
    return (this.#ier & IER.RECEIVED) !== 0 && this.#received.length === 0;
  }

  /** A byte arrives on the line. */
  receive(byte: number): void {
    const capacity = this.#fcr & FCR.ENABLE ? FIFO_SIZE : 1;
    if (this.#received.length >= capacity) this.#overrun = true;
    else this.#received.push(byte & 0xff);
    this.#updateInterrupt();
  }

  readPort(port: number, _size: number): number {
    const value = this.#read(port - this.base);
    this.#updateInterrupt();
    return value;
  }

  writePort(port: number, _size: number, value: number): void {
    this.#write(port - this.base, value & 0xff);
    this.#updateInterrupt();
  }

  get state(): SerialPortState {
    return {
      received: [...this.#received],
      ier: this.#ier,
      fcr: this.#fcr,
      lcr: this.#lcr,
      mcr: this.#mcr,
      scratch: this.#scratch,
      divisor: this.#divisor,
      overrun: this.#overrun,
      transmitterInterrupt: this.#transmitterInterrupt,
      level: this.#level,
    };
  }

  /** Puts the port into a state that `state` gave; its wires are left as they are. */
  restore(state: SerialPortState): void {
    this.#received = [...state.received];
    this.#ier = state.ier;
    this.#fcr = state.fcr;
    this.#lcr = state.lcr;
    this.#mcr = state.mcr;
    this.#scratch = state.scratch;
    this.#divisor = state.divisor;
    this.#overrun = state.overrun;
    this.#transmitterInterrupt = state.transmitterInterrupt;
    this.#level = state.level;
  }

  #read(register: number): number {
    const divisorAccess = (this.#lcr & LCR_DLAB) !== 0;
    switch (register) {
      case REGISTER.DATA:
        return divisorAccess ? this.#divisor & 0xff : (this.#received.shift() ?? 0);
      case REGISTER.IER:
        return divisorAccess ? this.#divisor >> 8 : this.#ier;
      case REGISTER.IIR_FCR:
        return this.#identifyInterrupt();
      case REGISTER.LCR:
        return this.#lcr;
      case REGISTER.MCR:
        return this.#mcr;
      case REGISTER.LSR:
        return this.#lineStatus();
      case REGISTER.MSR:
        return this.#modemStatus();
      default:
        return this.#scratch;
    }
  }

  #write(register: number, value: number): void {
    const divisorAccess = (this.#lcr & LCR_DLAB) !== 0;
    switch (register) {
      case REGISTER.DATA:
        if (divisorAccess) this.#divisor = (this.#divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case REGISTER.IER:
        if (divisorAccess) this.#divisor = (value << 8) | (this.#divisor & 0xff);
        else this.#enableInterrupts(value);
        break;
      case REGISTER.IIR_FCR:
        if ((value ^ this.#fcr) & FCR.ENABLE || value & FCR.CLEAR_RECEIVER) this.#received = [];
        this.#fcr = value;
        break;
      case REGISTER.LCR:
        this.#lcr = value;
        break;
      case REGISTER.MCR:
        this.#mcr = value & MCR.MASK;
        break;
      case REGISTER.SCR:
        this.#scratch = value;
        break;
      default:
        break;
    }
  }

  #transmit(byte: number): void {
    this.#transmitterInterrupt = true;
    if (this.#mcr & MCR.LOOP) this.receive(byte);
    else this.wiring.transmit(byte);
  }

  #enableInterrupts(value: number): void {
    const enabled = value & IER.MASK;
    if (enabled & ~this.#ier & IER.TRANSMITTER_EMPTY) this.#transmitterInterrupt = true;
    this.#ier = enabled;
  }

  /** The most urgent interrupt; reading it acknowledges the transmitter's. */
  #identifyInterrupt(): number {
    const cause = this.#pendingInterrupt();
    if (cause === IIR.TRANSMITTER_EMPTY) this.#transmitterInterrupt = false;
    return cause | (this.#fcr & FCR.ENABLE ? IIR.FIFOS : 0);
  }

  #pendingInterrupt(): number {
    if (this.#ier & IER.RECEIVED && this.#received.length > 0) {
      const trigger = this.#fcr & FCR.ENABLE ? (TRIGGER_LEVELS[this.#fcr >> FCR.TRIGGER_SHIFT] ?? 1) : 1;
      // Below the trigger level the character timeout is over at once.
      return this.#received.length >= trigger ? IIR.RECEIVED : IIR.TIMEOUT;
    }
    if (this.#ier & IER.TRANSMITTER_EMPTY && this.#transmitterInterrupt) return IIR.TRANSMITTER_EMPTY;
    return IIR.NONE;
  }

  #lineStatus(): number {
    const status =
      LSR.HOLDING_EMPTY |
      LSR.EMPTY |
      (this.#received.length > 0 ? LSR.DATA_READY : 0) |
      (this.#overrun ? LSR.OVERRUN : 0);
    this.#overrun = false;
    return status;
  }

  /** A cable with everything asserted, or in loop mode the port's own modem controls. */
  #modemStatus(): number {
    const mcr = this.#mcr;
    if (!(mcr & MCR.LOOP)) return MSR.CTS | MSR.DSR | MSR.DCD;
    return (
      (mcr & MCR.RTS ? MSR.CTS : 0) |
      (mcr & MCR.DTR ? MSR.DSR : 0) |
      (mcr & MCR.OUT1 ? MSR.RI : 0) |
      (mcr & MCR.OUT2 ? MSR.DCD : 0)
    );
  }

  /** On a PC, OUT2 opens the way to the interrupt controller. */
  #updateInterrupt(): void {
    const open = (this.#mcr & MCR.OUT2) !== 0 && (this.#mcr & MCR.LOOP) === 0;
    const level = open && this.#pendingInterrupt() !== IIR.NONE;
    if (level === this.#level) return;
    this.#level = level;
    this.wiring.setInterrupt(level);
  }
}
