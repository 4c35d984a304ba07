/** The controls: sliders over lists of values, and what the open file allows. */
import { type AnchorSpan, describeSpan } from "../../../../src/codec/anchors.ts";
import { partText, thousands } from "../data/text.ts";
import type { Facts, Look, Settings } from "../messages.ts";
import {
  BUDGETS,
  DEFAULT_SETTINGS,
  KEY_BITS,
  nearest,
  RECENT,
  recentFor,
  SINKS,
  SPANS,
  sinksFor,
  VALUE_BITS,
} from "../settings.ts";

const at = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

/** A slider over the values of a list. */
export class ListSlider<T> {
  readonly #input: HTMLInputElement;
  readonly #output: HTMLOutputElement;
  readonly #text: (value: T) => string;
  #values: readonly T[] = [];

  constructor(id: string, values: readonly T[], value: T, text: (value: T) => string) {
    this.#input = at(id);
    this.#output = document.querySelector(`output[for="${id}"]`)!;
    this.#text = text;
    this.#input.step = "1";
    this.#input.min = "0";
    this.offer(values, value);
    this.#input.addEventListener("input", () => this.#show());
  }

  get value(): T {
    return this.#values[Number(this.#input.value)];
  }

  set value(value: T) {
    this.offer(this.#values.includes(value) ? this.#values : [...this.#values, value], value);
  }

  offer(values: readonly T[], value: T): void {
    this.#values = values;
    this.#input.max = String(Math.max(0, values.length - 1));
    this.#input.value = String(Math.max(0, values.indexOf(value)));
    this.#input.disabled = values.length < 2;
    this.#show();
  }

  onInput(listener: () => void): void {
    this.#input.addEventListener("input", listener);
  }

  #show(): void {
    const text = this.#values.length ? this.#text(this.value) : "–";
    this.#output.textContent = text;
    this.#input.setAttribute("aria-valuetext", text);
  }
}

const bitsText = (bits: number): string => String(bits);
const spanText = (span: AnchorSpan): string => (typeof span === "number" ? thousands(span) : describeSpan(span));
const tokensText = (tokens: number): string => `${thousands(tokens)} tokens`;

export class Controls {
  readonly #sliders = {
    keyBits: new ListSlider("keyBits", KEY_BITS, DEFAULT_SETTINGS.keyBits, bitsText),
    valueBits: new ListSlider("valueBits", VALUE_BITS, DEFAULT_SETTINGS.valueBits, bitsText),
    anchorSpan: new ListSlider("anchorSpan", SPANS, DEFAULT_SETTINGS.anchorSpan, spanText),
    sinks: new ListSlider("sinks", SINKS, DEFAULT_SETTINGS.sinks, tokensText),
    recent: new ListSlider("recent", RECENT, DEFAULT_SETTINGS.recent, tokensText),
    budget: new ListSlider("budget", BUDGETS, DEFAULT_SETTINGS.budget, partText),
  };
  readonly #query = new ListSlider<number>("query", [], 0, thousands);
  readonly #grouping = at<HTMLSelectElement>("grouping");
  readonly #layer = at<HTMLSelectElement>("layer");
  readonly #head = at<HTMLSelectElement>("head");
  #facts: Facts | undefined;

  constructor(onChange: () => void) {
    at<HTMLFormElement>("controls").addEventListener("submit", (event) => event.preventDefault());
    at<HTMLFormElement>("controls").addEventListener("input", onChange);
  }

  get settings(): Settings {
    const { keyBits, valueBits, anchorSpan, sinks, recent, budget } = this.#sliders;
    const grouping = this.#grouping.value as Settings["grouping"];
    const chosen = {
      ...{ keyBits: keyBits.value, valueBits: valueBits.value, anchorSpan: anchorSpan.value, grouping },
      ...{ sinks: sinks.value, recent: recent.value, budget: budget.value },
    };
    return { ...chosen, ...this.#facts?.made };
  }

  get look(): Look {
    const query = this.#facts?.queryCount ? this.#query.value - this.#facts.firstQuery : 0;
    return { layer: this.#layer.selectedIndex, head: Math.max(0, this.#head.selectedIndex), query };
  }

  /** Offers what the file has; settings stay where they are, but for those that an archive fixes. */
  offer(facts: Facts): void {
    this.#facts = facts;
    const isMade = facts.made !== undefined;
    at<HTMLFieldSetElement>("codec").disabled = isMade;
    at<HTMLFieldSetElement>("attending").disabled = !facts.continued;
    this.#offerExact(facts);
    fill(this.#layer, facts.layerNumbers.map(String));
    fill(
      this.#head,
      Array.from({ length: facts.queryHeads }, (_, head) => String(head)),
    );
    const positions = Array.from({ length: facts.queryCount }, (_, i) => facts.firstQuery + i);
    this.#query.offer(positions, positions.at(-1) ?? 0);
  }

  #offerExact({ made, tokens }: Facts): void {
    const { sinks, recent, anchorSpan } = this.#sliders;
    if (made) {
      anchorSpan.value = made.anchorSpan;
      sinks.value = made.sinks;
      recent.value = made.recent;
      this.#grouping.value = made.grouping;
      return;
    }
    sinks.offer(sinksFor(tokens), nearest(sinksFor(tokens), sinks.value));
    recent.offer(recentFor(tokens), nearest(recentFor(tokens), recent.value));
    if (!SPANS.includes(anchorSpan.value)) anchorSpan.offer(SPANS, DEFAULT_SETTINGS.anchorSpan);
  }
}

function fill(select: HTMLSelectElement, texts: string[]): void {
  select.replaceChildren(
    ...texts.map((text) => {
      const option = document.createElement("option");
      option.textContent = text;
      return option;
    }),
  );
  select.disabled = texts.length < 2;
}
