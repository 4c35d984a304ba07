/** Records that come again: a table of rows, then the same rows as sentences, in another order. */
import type { Random } from "../tasks/random.ts";
import { ADJECTIVES, NOUNS } from "../tasks/words.ts";
import { type MakeText, rounds } from "./made-text.ts";

const CITIES = "Oslo Lima Cairo Perth Quito Dublin Nairobi Hanoi Lisbon Bogota Athens Dakar Riga Osaka".split(" ");

interface Order {
  id: string;
  item: string;
  count: string;
  city: string;
  price: string;
}

const order = (random: Random): Order => ({
  id: random.digits(5),
  item: `${random.pick(ADJECTIVES)} ${random.pick(NOUNS)}`,
  count: random.digits(2),
  city: random.pick(CITIES),
  price: `${random.digits(3)}.${random.digits(2)}`,
});

const row = ({ id, item, count, city, price }: Order): string =>
  `| ${id} | ${item} | ${count} | ${city} | ${price} |\n`;

const report = ({ id, item, count, city, price }: Order): string =>
  `Order ${id}: ${count} pieces of "${item}" went to ${city} for ${price}.\n`;

export const makeRecords: MakeText = (random, units) => {
  const orders = Array.from({ length: units }, () => order(random));
  return {
    head: `| order | item | pieces | city | price |\n|---|---|---|---|---|\n${orders.map(row).join("")}`,
    tail: `\nThe same orders, as they were reported:\n\n${rounds(random, orders, report)}`,
  };
};
