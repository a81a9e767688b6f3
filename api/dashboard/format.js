/** Numbers, times and sizes as people read them. */

export const NONE = "–";

/** A score: three decimals, or two digits where it is tiny. */
export function score(value) {
  if (value === null || value === undefined) return NONE;
  return value !== 0 && Math.abs(value) < 0.001
    ? String(Number(value.toPrecision(2)))
    : value.toFixed(3);
}

/** A score with its standard error, where there is one. */
export function measured(entry) {
  const value = score(entry?.value);
  return entry?.stderr ? `${value} ± ${score(entry.stderr)}` : value;
}

/** A score with its 95 % interval, where there is one. */
export function within(entry) {
  const value = score(entry?.value);
  return known(entry) ? `${value} (${score(entry.low)} to ${score(entry.high)})` : value;
}

/** A difference with its sign and its 95 % interval. */
export function ahead(entry) {
  if (entry?.value === null || entry?.value === undefined) return NONE;
  const value = difference(entry.value);
  return known(entry) ? `${value} (${difference(entry.low)} to ${difference(entry.high)})` : value;
}

const known = (entry) => typeof entry?.low === "number" && typeof entry?.high === "number";

/** A quantity of any size in three digits. */
export function significant(value) {
  return value === null || value === undefined ? NONE : String(Number(value.toPrecision(3)));
}

/** A difference with its sign. */
export function difference(value) {
  const text = score(Math.abs(value));
  return value < 0 ? `−${text}` : `+${text}`;
}

/** A coefficient in as few digits as tell it apart. */
export function coefficient(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

/** Seconds as "8 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  if (minutes < 60) return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
  const [hours, left] = [Math.floor(minutes / 60), minutes % 60];
  return left ? `${hours} h ${left} min` : `${hours} h`;
}

/** Seconds of work, with digits where they are few. */
export function seconds(value) {
  return value < 10 ? `${value.toFixed(2)} s` : duration(value);
}

/** Bytes in decimal units. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [value, unit] = [count, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Parameters of a model: "1.83 M". */
export function amount(count) {
  const scales = [
    [1e12, " T"],
    [1e9, " B"],
    [1e6, " M"],
    [1e3, " k"],
  ];
  const [scale, suffix] = scales.find(([size]) => count >= size) ?? [1, ""];
  return `${Number((count / scale).toPrecision(3))}${suffix}`;
}

/** A moment in the reader's own time zone. */
export function moment(iso) {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** "1 candidate", "2 candidates". */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
