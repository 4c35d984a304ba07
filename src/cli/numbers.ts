/** Numbers on the command line. */
import { InvalidArgumentError } from "commander";

export function number(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError("Expected a number.");
  return value;
}

export function positiveInteger(text: string): number {
  const value = number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("Expected an integer of at least 1.");
  return value;
}

export function positiveNumber(text: string): number {
  const value = number(text);
  if (value <= 0) throw new InvalidArgumentError("Expected a number above 0.");
  return value;
}

export function notNegative(text: string): number {
  const value = number(text);
  if (value < 0) throw new InvalidArgumentError("Expected a number from 0 on.");
  return value;
}

export function atLeastOne(text: string): number {
  const value = number(text);
  if (value < 1) throw new InvalidArgumentError("Expected a number from 1 on.");
  return value;
}
