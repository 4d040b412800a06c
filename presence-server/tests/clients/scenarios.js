/**
 * What a person sees who follows the guide, for any kind of tab. Who opens them closes them.
 *
 * `open(name)` gives a tab, whose functions may be asynchronous: `list()` is what it shows, such as
 * `["Alice (count: 2)"]`, `lists()` all that it has shown, `joins()` how often it has joined, and `close()`
 * closes it. Where a tab knows more, as a `Tab` does, there are `refs()`, `metas(key)`, `changes()` and
 * `setStatus(status)`.
 */

import assert from "node:assert/strict"
import { until } from "./expect.js"

const EVERYBODY = ["Alice (count: 2)", "Bob (count: 1)"]

/** Opens two tabs of Alice's and one of Bob's, and waits until each lists all three. */
async function openThree(open) {
  const tabs = await Promise.all(["Alice", "Alice", "Bob"].map(open))
  await eachLists(tabs, EVERYBODY)
  return tabs
}

async function eachLists(tabs, expected) {
  await Promise.all(tabs.map((tab, at) => until(`the list of tab ${at + 1}`, () => tab.list(), expected)))
}

/** Three tabs; one of Alice's is closed, then the other. */
export async function comeAndGo(open) {
  const [first, second, bob] = await openThree(open)
  await second.close()
  await eachLists([first, bob], ["Alice (count: 1)", "Bob (count: 1)"])
  await first.close()
  await eachLists([bob], ["Bob (count: 1)"])
}

/** The server ends by `signal` and comes back: everybody is listed again, and nobody twice. */
export async function restart(open, server, signal) {
  const tabs = await openThree(open)
  const seen = await Promise.all(tabs.map(async tab => (await tab.lists()).length))
  const before = (await tabs[0].refs?.()) ?? []
  await server.restart(signal)

  const state = async tab => ({ list: await tab.list(), joins: await tab.joins() })
  const back = { list: EVERYBODY, joins: 2 }
  await Promise.all(tabs.map((tab, at) => until(`tab ${at + 1} after the restart`, () => state(tab), back)))
  for (const [at, tab] of tabs.entries()) {
    const lists = (await tab.lists()).slice(seen[at])
    const wrong = lists.filter(list => list.some(line => !/^(Alice \(count: [12]\)|Bob \(count: 1\))$/.test(line)))
    assert.deepEqual(wrong, [], `tab ${at + 1} listed somebody too often after the restart`)
  }
  const carol = await open("Carol")
  await eachLists([...tabs, carol], [...EVERYBODY, "Carol (count: 1)"])
  if (!carol.refs) return
  const [refs, ...others] = await Promise.all([carol, ...tabs].map(tab => tab.refs()))
  assert.equal(new Set([...before, ...refs]).size, 7, "three presences before the restart, and four new ones after it")
  others.forEach(it => assert.deepEqual(it, refs, "every tab lists the same presences"))
}

/** Alice sets her status: Bob hears of one new meta in place of the old one. */
export async function update(open) {
  const [alice, bob] = await Promise.all(["Alice", "Bob"].map(open))
  await eachLists([alice, bob], ["Alice (count: 1)", "Bob (count: 1)"])
  const [old] = await bob.metas("Alice")
  const seen = (await bob.changes()).length
  assert.equal(await alice.setStatus("away"), "ok")
  const statuses = async tab => (await tab.metas("Alice")).map(meta => meta.status)
  await until("Alice's status at her own tab", () => statuses(alice), ["away"])
  await until("Alice's status at Bob's tab", () => statuses(bob), ["away"])

  const [now] = await bob.metas("Alice")
  assert.notEqual(now.phx_ref, old.phx_ref)
  assert.deepEqual(now, { ...old, status: "away", phx_ref: now.phx_ref, phx_ref_prev: old.phx_ref })
  assert.deepEqual((await bob.changes()).slice(seen), [
    { kind: "join", key: "Alice", before: [old.phx_ref], metas: [now] },
    { kind: "leave", key: "Alice", before: [now.phx_ref], metas: [old] },
  ])
}
