/** Where names stand beside their points, so that they keep apart. */

// Offsets of a name's middle from its point, in units of the plot's width and height.
const PLACES = {
  "top center": [0, 0.055],
  "bottom center": [0, -0.055],
  "middle right": [0.075, 0],
  "middle left": [-0.075, 0],
};
const [NAME_WIDTH, NAME_HEIGHT] = [0.1, 0.045];

/**
 * The first free of four places for each point's name.
 *
 * @param {{x: {value: number}, y: {value: number}}[]} points those with names.
 * @param {object[]} all points of the plot, which decide its scale.
 * @returns {string[]} `textposition` of each point.
 */
export function namePlaces(points, all) {
  const [across, up] = [unit(all, "x"), unit(all, "y")];
  const taken = points.map((point) => [across(point), up(point)]);
  return points.map((point) => {
    const [x, y] = [across(point), up(point)];
    const free = ([, [dx, dy]]) =>
      taken.every(
        ([a, b]) => Math.abs(a - x - dx) > NAME_WIDTH || Math.abs(b - y - dy) > NAME_HEIGHT,
      );
    const [place, [dx, dy]] = Object.entries(PLACES).find(free) ?? Object.entries(PLACES)[0];
    taken.push([x + dx, y + dy]);
    return place;
  });
}

/** Maps a point to its place between the lowest (0) and highest (1) of all. */
function unit(all, part) {
  const values = all.map((point) => point[part].value);
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  return (point) => (point[part].value - low) / span;
}
