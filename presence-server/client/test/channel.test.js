import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { Socket } from "../index.js"
import { FakeWebSocket, fakeTimers } from "./fakes.js"

let clock
let socket
let server

beforeEach(() => {
  clock = fakeTimers()
  FakeWebSocket.all = []
  socket = new Socket("ws://host/socket", { transport: FakeWebSocket })
})
afterEach(() => clock.restore())

function connect() {
  socket.connect()
  server = FakeWebSocket.last
  server.open()
}

function joined(topic = "room:lobby", params = {}) {
  connect()
  const channel = socket.channel(topic, params)
  channel.join()
  server.answerJoin(topic)
  return channel
}

/** Collects what a push receives. */
function outcomes(push) {
  const seen = []
  for (const status of ["ok", "error", "timeout"]) push.receive(status, response => seen.push([status, response]))
  return seen
}

test("a join is sent with its ref as its join_ref, and answered", () => {
  connect()
  const channel = socket.channel("room:lobby", { name: "Alice" })
  assert.equal(channel.state, "closed")
  const seen = outcomes(channel.join())
  assert.equal(channel.state, "joining")
  const [join] = server.frames
  assert.deepEqual(join, [join[1], join[1], "room:lobby", "phx_join", { name: "Alice" }])
  assert.equal(channel.joinRef(), join[1])
  server.answerJoin("room:lobby", "ok", { hello: 1 })
  assert.equal(channel.state, "joined")
  assert.deepEqual(seen, [["ok", { hello: 1 }]])
})

test("receive answers at once when the reply is here already", () => {
  connect()
  const push = socket.channel("room:lobby").join()
  server.answerJoin("room:lobby", "ok", { hello: 1 })
  assert.deepEqual(outcomes(push), [["ok", { hello: 1 }]])
})

test("a channel is joined once and not pushed to before", () => {
  connect()
  const channel = socket.channel("room:lobby")
  assert.throws(() => channel.push("event"), /must be joined/)
  channel.join()
  assert.throws(() => channel.join(), /joined already/)
})

test("the params of a join are asked for at each join", () => {
  let asked = 0
  const channel = joined("room:lobby", () => ({ n: ++asked }))
  server.receive(channel.joinRef(), channel.joinRef(), "room:lobby", "phx_error", {})
  clock.tick(1000)
  assert.deepEqual(server.frames.map(it => it[4]), [{ n: 1 }, { n: 2 }])
})

test("a refused join is tried again, later each time", () => {
  connect()
  const channel = socket.channel("room:lobby")
  const seen = outcomes(channel.join())
  for (const [attempt, delay] of [1000, 2000, 5000, 10000, 10000].entries()) {
    server.answerJoin("room:lobby", "error", { reason: "full" })
    assert.equal(channel.state, "errored")
    clock.tick(delay - 1)
    assert.equal(server.frames.length, attempt + 1)
    clock.tick(1)
    assert.equal(server.frames.length, attempt + 2)
    assert.equal(channel.state, "joining")
  }
  server.answerJoin("room:lobby")
  assert.equal(channel.state, "joined")
  assert.deepEqual(seen.map(([status]) => status), ["error", "error", "error", "error", "error", "ok"])
})

test("a join without an answer times out, is left, and is tried again", () => {
  connect()
  const channel = socket.channel("room:lobby")
  const seen = outcomes(channel.join())
  clock.tick(10_000)
  assert.deepEqual(seen, [["timeout", {}]])
  assert.equal(channel.state, "errored")
  const [join, leave] = server.frames
  assert.deepEqual([leave[0], leave[3]], [join[0], "phx_leave"])
  clock.tick(1000)
  assert.equal(channel.state, "joining")
  server.receive(join[0], join[1], "room:lobby", "phx_reply", { status: "ok", response: { late: true } })
  assert.equal(channel.state, "joining", "a late answer to the first join is ignored")
  server.answerJoin("room:lobby")
  assert.equal(channel.state, "joined")
})

test("pushes get their own replies", () => {
  const channel = joined()
  const first = outcomes(channel.push("echo", { n: 1 }))
  const second = outcomes(channel.push("fail", { n: 2 }))
  const third = outcomes(channel.push("noreply", { n: 3 }, 500))
  const [, one, two] = server.frames
  assert.deepEqual(one.slice(2), ["room:lobby", "echo", { n: 1 }])
  server.receive(two[0], two[1], "room:lobby", "phx_reply", { status: "error", response: { n: 2 } })
  server.receive(one[0], one[1], "room:lobby", "phx_reply", { status: "ok", response: { n: 1 } })
  clock.tick(500)
  clock.tick(10_000)
  assert.deepEqual([first, second, third], [[["ok", { n: 1 }]], [["error", { n: 2 }]], [["timeout", {}]]])
})

test("pushes wait for the join, and are not sent once they timed out", () => {
  connect()
  const channel = socket.channel("room:lobby")
  channel.join()
  const quick = outcomes(channel.push("quick", {}, 100))
  channel.push("slow", { n: 1 })
  clock.tick(100)
  assert.deepEqual(quick, [["timeout", {}]])
  assert.equal(server.frames.length, 1)
  const joinRef = server.answerJoin("room:lobby")
  assert.deepEqual(server.frames.slice(1).map(it => [it[0], it[3], it[4]]), [[joinRef, "slow", { n: 1 }]])
})

test("messages of an earlier join and of other topics are dropped", () => {
  const channel = joined()
  const seen = []
  channel.on("event", payload => seen.push(payload.n))
  const before = channel.joinRef()
  server.receive(before, before, "room:lobby", "phx_error", { reason: "channel_crash" })
  clock.tick(1000)
  const now = server.answerJoin("room:lobby")
  server.receive(before, null, "room:lobby", "event", { n: 1 })
  server.receive(now, null, "room:lobby", "event", { n: 2 })
  server.receive(null, null, "room:lobby", "event", { n: 3 })
  server.receive(null, null, "room:other", "event", { n: 4 })
  server.receive(before, before, "room:lobby", "phx_close", {})
  assert.deepEqual(seen, [2, 3])
  assert.equal(channel.state, "joined")
})

test("off removes one callback, or all of an event", () => {
  const channel = joined()
  const seen = []
  const ref = channel.on("event", () => seen.push("a"))
  channel.on("event", () => seen.push("b"))
  channel.off("event", ref)
  server.receive(null, null, "room:lobby", "event", {})
  channel.off("event")
  server.receive(null, null, "room:lobby", "event", {})
  assert.deepEqual(seen, ["b"])
})

test("onMessage can change a payload", () => {
  const channel = joined()
  const seen = []
  channel.onMessage = (event, payload) => ({ ...payload, seen: event })
  channel.on("event", payload => seen.push(payload))
  server.receive(null, null, "room:lobby", "event", { n: 1 })
  assert.deepEqual(seen, [{ n: 1, seen: "event" }])
})

test("a crash on the server is reported, and the channel joins again", () => {
  const channel = joined()
  const seen = []
  channel.onError(reason => seen.push(reason))
  server.receive(channel.joinRef(), channel.joinRef(), "room:lobby", "phx_error", { reason: "channel_crash" })
  assert.equal(channel.state, "errored")
  assert.deepEqual(seen, [{ reason: "channel_crash" }])
  clock.tick(1000)
  assert.equal(channel.state, "joining")
  server.answerJoin("room:lobby")
  assert.equal(channel.state, "joined")
})

test("a channel that the server closes stays closed", () => {
  const channel = joined()
  let closed = 0
  channel.onClose(() => closed++)
  server.receive(channel.joinRef(), channel.joinRef(), "room:lobby", "phx_close", {})
  assert.equal(channel.state, "closed")
  clock.tick(60_000)
  assert.equal(closed, 1)
  assert.equal(server.frames.length, 1)
  assert.deepEqual(socket.channels, [])
})

test("leave tells the server and closes at once", () => {
  const channel = joined()
  const joinRef = channel.joinRef()
  const closed = []
  channel.onClose(reason => closed.push(reason))
  const seen = outcomes(channel.leave())
  assert.deepEqual(seen, [["ok", {}]])
  assert.deepEqual(closed, ["leave"])
  assert.equal(channel.state, "closed")
  assert.deepEqual(server.frames.at(-1), [joinRef, server.frames.at(-1)[1], "room:lobby", "phx_leave", {}])
  clock.tick(60_000)
  assert.equal(server.frames.length, 2)
})

test("a topic that was left can be joined again, with another channel", () => {
  const first = joined()
  const before = first.joinRef()
  first.leave()
  const second = socket.channel("room:lobby")
  second.join()
  const seen = []
  second.on("event", payload => seen.push(payload))
  server.receive(before, before, "room:lobby", "phx_close", {})
  server.answerJoin("room:lobby")
  server.receive(null, null, "room:lobby", "event", { n: 1 })
  assert.equal(second.state, "joined")
  assert.deepEqual(seen, [{ n: 1 }])
})

test("joining a topic twice leaves the first channel", () => {
  const first = joined()
  const second = socket.channel("room:lobby")
  second.join()
  assert.equal(first.state, "closed")
  assert.deepEqual(server.frames.map(it => it[3]), ["phx_join", "phx_leave", "phx_join"])
  server.answerJoin("room:lobby")
  assert.equal(second.state, "joined")
})

test("a channel left while it was joining stays closed whatever the server answers", () => {
  connect()
  const channel = socket.channel("room:lobby")
  channel.join()
  channel.leave()
  server.answerJoin("room:lobby")
  clock.tick(60_000)
  assert.equal(channel.state, "closed")
})

test("binary payloads go both ways, as recorded", () => {
  const hex = buffer => Buffer.from(buffer).toString("hex")
  const bytes = text => Uint8Array.from(Buffer.from(text, "hex")).buffer
  const channel = joined("conf:1")
  const joinRef = channel.joinRef()
  const push = channel.push("echo", bytes("0001ff"))
  const seen = []
  push.receive("ok", response => seen.push(hex(response)))
  channel.on("shout", payload => seen.push(hex(payload)))
  channel.on("pushed", payload => seen.push(hex(payload)))
  const at = text => Buffer.from(text).toString("hex")
  assert.equal(hex(server.sent.at(-1)), `0001010604${at(joinRef)}${at(push.ref)}636f6e663a316563686f0001ff`)
  server.receiveBinary(bytes(`0101010602${at(joinRef)}${at(push.ref)}636f6e663a316f6b0001ff`))
  server.receiveBinary(bytes("020605636f6e663a3173686f75746279746573"))
  server.receiveBinary(bytes(`00010606${at(joinRef)}636f6e663a31707573686564`))
  assert.deepEqual(seen, ["0001ff", "6279746573", ""])
})
