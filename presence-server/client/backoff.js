/** Milliseconds before each attempt to connect again; the last one repeats. */
export const RECONNECT_DELAYS = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000]

/** Milliseconds before each attempt to join again; the last one repeats. */
export const REJOIN_DELAYS = [1000, 2000, 5000, 10000]

/**
 * Turns a table of delays into the function that `reconnectAfterMs` and `rejoinAfterMs` take.
 *
 * @param {number[]} delays
 * @returns {(tries: number) => number} the delay before attempt `tries`, counted from 1
 */
export const stepped = delays => tries => delays[Math.min(tries, delays.length) - 1]

/** Runs a callback later, and later still each time it has run, until it is reset. */
export class Backoff {
  #callback
  #delayOf
  #timer
  #tries = 0

  /**
   * @param {() => void} callback
   * @param {(tries: number) => number} delayOf the milliseconds to wait before attempt `tries`
   */
  constructor(callback, delayOf) {
    this.#callback = callback
    this.#delayOf = delayOf
  }

  /** Schedules the next attempt, in place of one that is waiting. */
  schedule() {
    this.cancel()
    this.#timer = setTimeout(() => {
      this.#tries += 1
      this.#callback()
    }, this.#delayOf(this.#tries + 1))
  }

  /** Drops the attempt that is waiting, without forgetting how many there were. */
  cancel() {
    clearTimeout(this.#timer)
  }

  /** Drops the attempt that is waiting and starts again with the first delay. */
  reset() {
    this.cancel()
    this.#tries = 0
  }
}
