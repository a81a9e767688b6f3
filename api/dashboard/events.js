/** The live log of one search: server-sent events, resumed where they broke off. */

import * as api from "./api.js";

const KINDS = [
  "message",
  "surveyed",
  "failed",
  "scored",
  "infeasible",
  "pause",
  "resume",
  "extend",
  "cancel",
  "stopped",
  "selecting",
  "selected",
  "reporting",
  "reported",
  "finished",
  "checkpoint_requested",
  "checkpoint_stored",
  "checkpoint_failed",
];
const LONGEST_WAIT_MS = 15_000;

/**
 * Follow a search until told to stop.
 *
 * The browser reconnects by itself after a broken connection and sends the last id; only where it
 * gives up (the service answered no, or is down) a new stream is opened after the last entry seen.
 *
 * @param {string} id
 * @param {number} after seq of the last entry that is known already.
 * @param {{onEvent: Function, onLive: Function}} hooks `onLive(true|false)` tells of the connection.
 * @returns {Function} stops it.
 */
export function follow(id, after, { onEvent, onLive }) {
  let [seen, wait, stopped, timer, source] = [after, 500, false, null, null];

  function open() {
    source = new EventSource(api.eventsUrl(id, seen));
    source.onopen = () => {
      wait = 500;
      onLive(true);
    };
    source.onerror = () => {
      if (stopped) return;
      onLive(false);
      if (source.readyState === EventSource.CLOSED) reopen();
    };
    for (const kind of KINDS) source.addEventListener(kind, receive);
  }

  function receive(message) {
    const event = JSON.parse(message.data);
    if (event.seq <= seen) return;
    seen = event.seq;
    onEvent(event);
  }

  function reopen() {
    source.close();
    timer = setTimeout(async () => {
      // Any call finds out whether a token is wanted, which an EventSource cannot tell.
      await api.search(id).catch(() => null);
      if (!stopped) open();
    }, wait);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }

  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    source.close();
  };
}
