/** Waiting for what must come, with a limit. */

import assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"

/** How long anything may take, in ms. It is only spent where something is wrong. */
export const LIMIT = 30_000

// A test that hangs in spite of its limits must not hang the run.
setTimeout(() => {
  console.error("the tests of this file have not ended after five minutes")
  process.exit(1)
}, 300_000).unref()

/**
 * Waits until `read()` gives what is expected; after the limit it fails and shows what came instead.
 *
 * @param {string} what in words
 * @param {() => any} read may be asynchronous
 * @param {any} expected
 */
export async function until(what, read, expected) {
  const end = Date.now() + LIMIT
  for (;;) {
    const actual = await read()
    if (isDeepStrictEqual(actual, expected)) return
    if (Date.now() > end) assert.deepEqual(actual, expected, `${what}: not so after ${LIMIT / 1000} s`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** Waits for an event that a callback reports: `await event("a reply", done => push.receive("ok", done))`. */
export function event(what, listen) {
  return new Promise((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error(`${what}: did not come within ${LIMIT / 1000} s`)), LIMIT)
    listen(value => {
      clearTimeout(limit)
      resolve(value)
    })
  })
}
