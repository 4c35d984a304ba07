/**
 * A value from outside as an error message shows it: short, and safe where `String` is not (an object with a field
 * `toString`, arrays nested a million deep).
 */
export function brief(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) {
    const flat = value.length <= 8 && value.every((item) => typeof item === "number");
    return flat ? `[${value.join(", ")}]` : `an array of ${value.length}`;
  }
  if (typeof value === "object" && value !== null) return "an object";
  return value === undefined ? "nothing" : String(value);
}
