import { systemCode } from "./errors.js";

const CSI = "\x1b[";

/** Styles of words on a terminal. */
const STYLES = {
  dim: "2",
  bold: "1",
  red: "31",
  green: "32",
  yellow: "33",
  blue: "34",
  magenta: "35",
  cyan: "36",
} as const;
export type Style = keyof typeof STYLES;

/** All that the command says beside the guest's console: progress, warnings, the tour and the closing line, on stderr. */
export class Speaker {
  readonly #colour: boolean;
  /** The console shares the terminal and has left the cursor within a line. */
  #midLine = false;
  /** Called before a line of ours, so that what the console has printed comes first. */
  beforeLine: () => void = () => {};

  constructor(
    private readonly stream: NodeJS.WriteStream,
    readonly quiet: boolean,
    environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.#colour = stream.isTTY === true && (environment.NO_COLOR ?? "") === "" && environment.TERM !== "dumb";
    stream.on("error", (error) => {
      if (systemCode(error) !== "EPIPE") throw error;
    });
  }

  styled(style: Style, text: string): string {
    return this.#colour ? `${CSI}${STYLES[style]}m${text}${CSI}0m` : text;
  }

  /** Tells where the console has left the cursor, when both are on one terminal. */
  consoleWrote(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#midLine = bytes[bytes.length - 1] !== 0x0a;
  }

  /** Progress; not with --quiet. */
  say(line: string): void {
    if (!this.quiet) this.#line(`seamless: ${line}`);
  }

  /** A line as it is; not with --quiet. */
  tell(line: string): void {
    if (!this.quiet) this.#line(line);
  }

  warn(line: string): void {
    this.#line(`seamless: ${this.styled("yellow", "warning:")} ${line}`);
  }

  fail(message: string, hint: string): void {
    this.#line(`seamless: ${this.styled("red", "error:")} ${message}`);
    if (hint !== "") this.#line(`  ${hint}`);
  }

  #line(text: string): void {
    this.beforeLine();
    // A raw terminal does not return to the first column by itself.
    const bothOnTerminal = this.stream.isTTY === true && process.stdin.isTTY === true && process.stdin.isRaw;
    const newline = bothOnTerminal ? "\r\n" : "\n";
    const start = this.#midLine && this.stream.isTTY === true ? newline : "";
    this.#midLine = false;
    this.stream.write(start + text + newline);
  }
}
