/** Who asks for a metadata field. */
export type Accessor = "host" | "debug" | "guest";

/** Masks of the bits that each accessor may read and write (`debug`: the host, of a TD with ATTRIBUTES.DEBUG). */
export interface FieldAccess {
  readonly read: { readonly [who in Accessor]: bigint };
  readonly write: { readonly [who in Accessor]: bigint };
}

const ALL = (1n << 64n) - 1n;
const access = (read: Partial<FieldAccess["read"]>, write: Partial<FieldAccess["write"]> = {}): FieldAccess => ({
  read: { host: 0n, debug: 0n, guest: 0n, ...read },
  write: { host: 0n, debug: 0n, guest: 0n, ...write },
});

/** Usual combinations of rights. */
export const ACCESS = {
  HOST: access({ host: ALL, debug: ALL }),
  HOST_GUEST: access({ host: ALL, debug: ALL, guest: ALL }),
  GUEST: access({ debug: ALL, guest: ALL }),
  DEBUG: access({ debug: ALL }, { debug: ALL }),
  DEBUG_READ: access({ debug: ALL }),
  /** The host reads, and writes the bits of `mask`. */
  hostWrite: (mask = ALL) => access({ host: ALL, debug: ALL }, { host: mask, debug: mask }),
  /** The guest reads, and writes the bits of `mask`. */
  guestWrite: (mask = ALL) => access({ debug: ALL, guest: ALL }, { guest: mask }),
  /** Host and guest read; the guest writes. */
  guestWriteHostRead: (mask = ALL) => access({ host: ALL, debug: ALL, guest: ALL }, { guest: mask }),
} as const;

/** One field, or an array of equal elements, of a control structure. */
export interface Field {
  readonly name: string;
  /** From the start of the structure; pages follow each other, wherever they lie. */
  readonly offset: number;
  /** Bytes per element. */
  readonly size: 1 | 2 | 4 | 8;
  readonly count: number;
  /** Metadata identifier of element 0; null: not visible as metadata. */
  readonly id: bigint | null;
  readonly access: FieldAccess | null;
}

interface FieldOptions {
  readonly count?: number;
  readonly id?: bigint;
  readonly access?: FieldAccess;
  /** Fixed place; otherwise the next aligned one. */
  readonly at?: number;
}

/** Lays out the fields of one control structure, and keeps the list of them. */
export class StructureLayout {
  readonly fields: Field[] = [];
  #next = 0;

  constructor(
    readonly name: string,
    readonly size: number,
  ) {}

  field(name: string, size: Field["size"], options: FieldOptions = {}): Field {
    const count = options.count ?? 1;
    const offset = options.at ?? Math.ceil(this.#next / size) * size;
    if (offset % size !== 0 || offset + size * count > this.size)
      throw new RangeError(`${this.name}.${name} does not fit`);
    this.#next = offset + size * count;
    const field = { name, offset, size, count, id: options.id ?? null, access: options.access ?? null };
    this.fields.push(field);
    return field;
  }

  /** The next field begins here. */
  at(offset: number): void {
    this.#next = offset;
  }
}
