/** Who speaks in a trace line. */
export type Layer = "cpu" | "module" | "platform" | "smm" | "mce" | "mm" | "kvm" | "vmm";

/** What an event carries beside its name. Addresses, registers and statuses are bigint; counts are numbers. */
export type EventFields = Readonly<Record<string, string | number | bigint | boolean | null>>;

/** One event of the machine, stamped. */
export interface MachineEvent {
  /** Position in the order of all events, from 0. */
  readonly n: number;
  /** Retired instructions, summed over vCPUs. */
  readonly insn: number;
  /** Clock in ns. */
  readonly clock: number;
  readonly lp: number;
  /** vCPU index, null where no vCPU is concerned. */
  readonly vcpu: number | null;
  readonly layer: Layer;
  readonly event: string;
  readonly fields: EventFields;
}

export type EventListener = (event: MachineEvent) => void;

/** Where the bus takes its stamps from. */
export interface EventStamps {
  readonly insn: number;
  readonly clock: number;
}

/**
 * Carries the events of all layers, in order, to whoever listens. With no listener for a name, `emit` costs one look-up;
 * callers that must build fields ask `wants` first.
 */
export class EventBus {
  #next = 0;
  readonly #all = new Set<EventListener>();
  readonly #named = new Map<string, Set<EventListener>>();

  constructor(private readonly stamps: EventStamps) {}

  /** Listens to one event by name, or to all of them with "*". Returns the way to stop. */
  on(name: string, listener: EventListener): () => void {
    const set = name === "*" ? this.#all : (this.#named.get(name) ?? new Set());
    if (name !== "*") this.#named.set(name, set);
    set.add(listener);
    return () => set.delete(listener);
  }

  /** True if somebody listens to this event. */
  wants(name: string): boolean {
    return this.#all.size > 0 || (this.#named.get(name)?.size ?? 0) > 0;
  }

  emit(layer: Layer, event: string, lp: number, vcpu: number | null, fields: EventFields = {}): void {
    const n = this.#next++;
    if (!this.wants(event)) return;
    const stamped = { n, insn: this.stamps.insn, clock: this.stamps.clock, lp, vcpu, layer, event, fields };
    for (const listener of this.#all) listener(stamped);
    for (const listener of this.#named.get(event) ?? []) listener(stamped);
  }
}
