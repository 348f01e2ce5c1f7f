import { STATUS } from "./errors.js";

/** Why somebody outside wants the run to end. */
export interface StopRequest {
  /** A signal's name, or words. */
  readonly name: string;
  readonly status: number;
}

const SIGNAL_STATUS = { SIGINT: STATUS.sigint, SIGTERM: STATUS.sigterm, SIGHUP: STATUS.sighup } as const;

/** Collects requests to stop; the run looks at it between slices. */
export class StopSignals {
  /** The first request. */
  request: StopRequest | undefined;
  readonly #handlers: { readonly signal: NodeJS.Signals; readonly handler: () => void }[] = [];

  constructor() {
    for (const [signal, status] of Object.entries(SIGNAL_STATUS)) {
      const name = signal as keyof typeof SIGNAL_STATUS;
      const handler = () => this.ask({ name, status });
      process.on(name, handler);
      this.#handlers.push({ signal: name, handler });
    }
  }

  ask(request: StopRequest): void {
    this.request ??= request;
  }

  dispose(): void {
    for (const { signal, handler } of this.#handlers) process.off(signal, handler);
  }
}
