/** At most this many redraws in a second, however fast the log grows. */
const SHORTEST_GAP_MS = 250;

/**
 * Batch calls: the first runs soon, those that follow within the gap share one run at its end.
 * Slow work stretches the gap, so that drawing never takes more than about a third of the time.
 *
 * @param {Function} work may be async.
 * @returns {{soon: Function, stop: Function}}
 */
export function throttled(work) {
  let [timer, last, gap, busy, again] = [null, 0, SHORTEST_GAP_MS, false, false];

  async function run() {
    [timer, busy, again] = [null, true, false];
    const start = performance.now();
    try {
      await work();
    } finally {
      last = performance.now();
      gap = Math.max(SHORTEST_GAP_MS, 2 * (last - start));
      busy = false;
      if (again) soon();
    }
  }

  function soon() {
    if (busy) again = true;
    else timer ??= setTimeout(run, Math.max(0, last + gap - performance.now()));
  }

  return {
    soon,
    stop: () => {
      clearTimeout(timer);
      again = false;
      timer = -1;
    },
  };
}
