import { ByteWriter } from "./bytes.js";
import { TYPE, type ValueType } from "./expression.js";
import { FunctionBuilder, type FunctionReference } from "./function.js";

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

interface Definition {
  readonly typeIndex: number;
  code: Uint8Array | null;
}

/** Writes a WebAssembly module whose only import is the memory "m"."m". Functions are declared first and defined in any order. */
export class ModuleBuilder {
  readonly #types: string[] = [];
  readonly #definitions: Definition[] = [];
  readonly #exports: { name: string; index: number }[] = [];
  #elements: readonly FunctionReference[] = [];

  /** @param memory what the imported memory is: shared or not. Limits are in 64 KiB pages. */
  constructor(
    readonly memory: { readonly shared: boolean; readonly initialPages: number; readonly maximumPages: number },
  ) {}

  /** Index of a function type. */
  type(parameters: readonly ValueType[], result: ValueType | null): number {
    const key = `${parameters.join()}:${result ?? ""}`;
    const found = this.#types.indexOf(key);
    return found >= 0 ? found : this.#types.push(key) - 1;
  }

  declare<const P extends readonly ValueType[], const R extends ValueType | null>(
    parameters: P,
    result: R,
  ): FunctionReference<P, R> {
    const index = this.#definitions.push({ typeIndex: this.type(parameters, result), code: null }) - 1;
    return { index, parameters, result };
  }

  define(target: FunctionReference, body: (f: FunctionBuilder) => void): void {
    const definition = this.#definitions[target.index] as Definition;
    if (definition.code) throw new Error("function defined twice");
    const f = new FunctionBuilder(target.parameters);
    body(f);
    definition.code = f.encode();
  }

  export(name: string, target: FunctionReference): void {
    this.#exports.push({ name, index: target.index });
  }

  /** Fills table 0, for `callIndirect`. */
  table(elements: readonly FunctionReference[]): void {
    this.#elements = elements;
  }

  encode(): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter(1 << 16);
    out.raw(MAGIC);
    const section = (id: number, write: (s: ByteWriter) => void): void => {
      const content = new ByteWriter(1 << 12);
      write(content);
      out.byte(id);
      out.unsigned(content.length);
      out.raw(content.bytes());
    };
    section(1, (s) => {
      s.unsigned(this.#types.length);
      for (const key of this.#types) {
        const [parameters = "", result = ""] = key.split(":");
        const types = parameters === "" ? [] : (parameters.split(",") as ValueType[]);
        s.byte(0x60);
        s.unsigned(types.length);
        for (const type of types) s.byte(TYPE[type]);
        s.unsigned(result === "" ? 0 : 1);
        if (result !== "") s.byte(TYPE[result as ValueType]);
      }
    });
    section(2, (s) => {
      s.unsigned(1);
      s.name("m");
      s.name("m");
      s.byte(0x02);
      s.byte(this.memory.shared ? 0x03 : 0x01);
      s.unsigned(this.memory.initialPages);
      s.unsigned(this.memory.maximumPages);
    });
    section(3, (s) => {
      s.unsigned(this.#definitions.length);
      for (const { typeIndex } of this.#definitions) s.unsigned(typeIndex);
    });
    if (this.#elements.length > 0) {
      section(4, (s) => {
        s.raw([1, 0x70, 0x01]);
        s.unsigned(this.#elements.length);
        s.unsigned(this.#elements.length);
      });
    }
    section(7, (s) => {
      s.unsigned(this.#exports.length);
      for (const { name, index } of this.#exports) {
        s.name(name);
        s.byte(0x00);
        s.unsigned(index);
      }
    });
    if (this.#elements.length > 0) {
      section(9, (s) => {
        s.raw([1, 0x00, 0x41, 0x00, 0x0b]);
        s.unsigned(this.#elements.length);
        for (const { index } of this.#elements) s.unsigned(index);
      });
    }
    section(10, (s) => {
      s.unsigned(this.#definitions.length);
      this.#definitions.forEach(({ code }, n) => {
        if (!code) throw new Error(`function ${n} was declared and not defined`);
        s.unsigned(code.length);
        s.raw(code);
      });
    });
    return out.bytes();
  }
}
