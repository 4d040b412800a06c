import assert from "node:assert/strict"
import { readdirSync, readFileSync } from "node:fs"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { Presence } from "../index.js"

const folder = process.env.CLIENT_FIXTURES
  ?? fileURLToPath(new URL("../../../conformance/fixtures/client", import.meta.url))

/** A channel that a test drives. */
class Channel {
  #bindings = {}
  #joins = 1
  on(event, callback) {
    this.#bindings[event] = callback
  }
  joinRef() {
    return String(this.#joins)
  }
  rejoin() {
    this.#joins += 1
  }
  receive(event, payload) {
    this.#bindings[event](payload)
  }
}

/** A copy in which key order and prototypes play no part. */
const plain = value => JSON.parse(JSON.stringify(value ?? null))

/** Calls in the order given, except that neighbours of one kind compare as a set. */
function inPasses(calls) {
  const passes = []
  for (const call of calls) {
    if (passes.at(-1)?.[0].call === call.call) passes.at(-1).push(call)
    else passes.push([call])
  }
  const order = pass => pass.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  return passes.map(order)
}

/** A record with its keys in one order, so that calls of a pass can be sorted. */
const record = (call, key, current, presence) => ({ call, current: plain(current), key, presence: plain(presence) })
const recorded = it => (it.call === "sync" ? { call: "sync" } : record(it.call, it.key, it.current, it.presence))
const entries = state => new Map(Object.entries(plain(state)))

const files = readdirSync(folder).filter(file => file.endsWith(".json"))

test("the recorded series are there", () => assert.ok(files.length >= 100, `${files.length} in ${folder}`))

for (const file of files) {
  test(`series ${file}`, () => {
    const channel = new Channel()
    const presence = new Presence(channel)
    let calls = []
    presence.onJoin((key, current, joined) => calls.push(record("join", key, current, joined)))
    presence.onLeave((key, current, left) => calls.push(record("leave", key, current, left)))
    presence.onSync(() => calls.push({ call: "sync" }))
    const { steps } = JSON.parse(readFileSync(`${folder}/${file}`, "utf8"))
    steps.forEach((step, index) => {
      calls = []
      if (step.event === "rejoin") channel.rejoin()
      else channel.receive(step.event, step.payload)
      const where = `step ${index} (${step.event})`
      assert.deepEqual(inPasses(calls), inPasses(step.calls.map(recorded)), `calls of ${where}`)
      assert.deepEqual(entries(presence.state), entries(step.state), `state after ${where}`)
      assert.equal(presence.inPendingSyncState(), step.pending, `pending after ${where}`)
    })
  })
}

test("list makes an element of each presence", () => {
  const channel = new Channel()
  const presence = new Presence(channel)
  channel.receive("presence_state", { Alice: { metas: [{ phx_ref: "1" }, { phx_ref: "2" }] }, Bob: { metas: [{ phx_ref: "3" }] } })
  assert.deepEqual(presence.list((id, { metas }) => `${id} (count: ${metas.length})`), ["Alice (count: 2)", "Bob (count: 1)"])
  assert.deepEqual(plain(presence.list()[1]), { metas: [{ phx_ref: "3" }] })
})

test("the events can have other names", () => {
  const channel = new Channel()
  const presence = new Presence(channel, { events: { state: "s", diff: "d" } })
  channel.receive("s", {})
  channel.receive("d", { joins: { a: { metas: [{ phx_ref: "1" }] } }, leaves: {} })
  assert.deepEqual(Object.keys(presence.state), ["a"])
})

test("keys that objects have by nature are keys like others", () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "7"]
  const state = JSON.parse(`{${names.map((name, i) => `"${name}": {"metas": [{"phx_ref": "${i}"}]}`)}}`)
  const joined = []
  let list = Presence.syncState({}, state, key => joined.push(key))
  assert.deepEqual(joined.sort(), names.sort())
  const left = []
  list = Presence.syncDiff(list, { joins: {}, leaves: state }, undefined, key => left.push(key))
  assert.deepEqual(left.sort(), names.sort())
  assert.deepEqual(Object.keys(list), [])
  assert.equal(Object.prototype.metas, undefined)
})

test("syncState reports what changed and leaves the list it was given as it is", () => {
  const before = { a: { metas: [{ phx_ref: "1" }, { phx_ref: "2" }] }, b: { metas: [{ phx_ref: "3" }] } }
  const copy = plain(before)
  const calls = []
  const after = Presence.syncState(
    before,
    { a: { metas: [{ phx_ref: "2" }, { phx_ref: "4" }] }, c: { metas: [{ phx_ref: "5" }] } },
    (key, current, joined) => calls.push(["join", key, joined.metas.map(meta => meta.phx_ref)]),
    (key, current, left) => calls.push(["leave", key, left.metas.map(meta => meta.phx_ref), current.metas.length]),
  )
  assert.deepEqual(before, copy)
  assert.deepEqual(new Set(calls.map(String)), new Set(["join,a,4", "join,c,5", "leave,a,1,2", "leave,b,3,0"]))
  assert.deepEqual(plain(after), { a: { metas: [{ phx_ref: "2" }, { phx_ref: "4" }] }, c: { metas: [{ phx_ref: "5" }] } })
})
