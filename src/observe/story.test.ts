import { describe, expect, it } from "vitest";
import { EventBus, type EventFields, type Layer } from "../platform/event-bus.js";
import { Story, type StoryLine, valuesOf } from "./story.js";

type Step = readonly [Layer, string, EventFields?];

const PLAIN: readonly Step[] = [
  ["platform", "smi-latched", { msmi: false }],
  ["module", "td-exit", { reason: 6, qualification: 0n }],
  ["platform", "seamret"],
  ["smm", "smm-enter", { smiCount: 1 }],
  ["smm", "smm-exit"],
  ["kvm", "kvm-exit", { reason: 6, status: 6n }],
];

const FATAL: readonly Step[] = [
  ["platform", "mca-logged", { bank: 1 }],
  ["platform", "smi-latched", { msmi: true }],
  ["module", "td-exit", { reason: 6, qualification: 1n }],
  ["module", "td-fatal"],
  ["platform", "seamret"],
  ["smm", "smm-enter"],
  ["smm", "smm-exit"],
  ["mce", "machine-check"],
  ["mm", "page-poisoned"],
  ["kvm", "kvm-exit", { reason: 6, status: 0x6000000500000006n }],
  ["kvm", "kvm-userspace-exit", { reason: 17 }],
  ["platform", "seamret", { leaf: 1n }],
  ["mm", "page-returned", { count: 100 }],
  ["mm", "page-withheld", { hpa: 0x1000n }],
];

function tell(...scripts: (readonly Step[])[]): { story: Story; lines: StoryLine[] } {
  const events = new EventBus({ insn: 0, clock: 0 });
  const lines: StoryLine[] = [];
  const story = new Story(events, (line) => lines.push(line));
  for (const [layer, event, fields] of scripts.flat()) events.emit(layer, event, 0, 0, fields ?? {});
  return { story, lines };
}

describe("the story", () => {
  it("follows a plain SMI from the latch to KVM, and counts it", () => {
    const { story, lines } = tell(PLAIN);
    expect(lines.map(({ event }) => event)).toEqual(PLAIN.map(([, event]) => event));
    expect(lines[1]?.values).toBe("reason=6 qualification=0x0");
    expect(lines[5]?.meaning).toContain("resumes");
    expect(story.plainSmis).toBe(1);
    expect(story.fatalStoryComplete).toBe(false);
  });

  it("is silent about exits that no SMI caused", () => {
    const busy: Step[] = [
      ["module", "td-exit", { reason: 77 }],
      ["platform", "seamret"],
      ["kvm", "kvm-exit", { reason: 77 }],
    ];
    const { lines } = tell(busy, PLAIN, busy);
    expect(lines).toHaveLength(PLAIN.length);
  });

  it("follows a machine-check SMI to the last page", () => {
    const { story, lines } = tell(PLAIN, PLAIN, FATAL);
    expect(story.plainSmis).toBe(2);
    expect(story.fatalStoryComplete).toBe(true);
    expect(story.missing).toEqual([]);
    expect(story.pagesReturned).toBe(100);
    expect(lines.at(-1)?.event).toBe("page-withheld");
    expect(
      lines.find(({ event, values }) => event === "kvm-exit" && values.includes("0x6000000500000006"))?.meaning,
    ).toContain("no TD comes back");
  });

  it("knows which step is missing", () => {
    const { story } = tell(FATAL.filter(([, event]) => event !== "page-poisoned"));
    expect(story.fatalStoryComplete).toBe(false);
    expect(story.missing).toEqual(["page-poisoned"]);
  });

  it("says nothing after it has been disposed of", () => {
    const events = new EventBus({ insn: 0, clock: 0 });
    const lines: StoryLine[] = [];
    new Story(events, (line) => lines.push(line)).dispose();
    events.emit("platform", "smi-latched", 0, 0);
    expect(lines).toEqual([]);
  });
});

describe("values of an event", () => {
  it("prints addresses in hex, counts in decimal, and nothing for null", () => {
    expect(valuesOf({ hpa: 0x1000n, count: 3, vcpu: null, msmi: true })).toBe("hpa=0x1000 count=3 msmi=true");
  });
});
