import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { LongPoll, Presence, Socket } from "../index.js"
import { FakeWebSocket, fakeTimers, settled } from "./fakes.js"

let clock

beforeEach(() => {
  clock = fakeTimers()
  FakeWebSocket.all = []
})
afterEach(() => clock.restore())

const socketWith = options => new Socket("ws://host/socket", { transport: FakeWebSocket, ...options })

function connected(options) {
  const socket = socketWith(options)
  socket.connect()
  FakeWebSocket.last.open()
  return socket
}

test("the URL carries the params, nested ones too, and the version", () => {
  const socket = socketWith({ params: { name: "A b&c", user: { id: 7 }, none: undefined } })
  assert.equal(socket.endPointURL(), "ws://host/socket/websocket?name=A%20b%26c&user%5Bid%5D=7&vsn=2.0.0")
  assert.equal(socketWith().endPointURL(), "ws://host/socket/websocket?vsn=2.0.0")
})

test("a relative endpoint is completed from the page's address", () => {
  globalThis.location = { protocol: "https:", host: "example.com:4000" }
  try {
    assert.equal(new Socket("/socket").endPointURL(), "wss://example.com:4000/socket/websocket?vsn=2.0.0")
    assert.equal(new Socket("//other/socket").endPointURL(), "wss://other/socket/websocket?vsn=2.0.0")
    globalThis.location.protocol = "http:"
    assert.equal(new Socket("/socket").endPointURL(), "ws://example.com:4000/socket/websocket?vsn=2.0.0")
  } finally {
    delete globalThis.location
  }
})

test("params are asked for at each connect", () => {
  let asked = 0
  const socket = connected({ params: () => ({ n: ++asked }) })
  FakeWebSocket.last.end(1006)
  clock.tick(10)
  assert.match(FakeWebSocket.last.url, /\?n=2&/)
  socket.disconnect()
})

test("an auth token travels as a sub-protocol, as recorded", () => {
  const token = "SFMyNTY.g2gDYSpuBgAAiERwngFiAAFRgA.gUer-eauXx_yroSlB0IcwoYQXEV_MiJUWeIMUWut350"
  connected({ authToken: () => token })
  assert.deepEqual(FakeWebSocket.last.protocols, [
    "phoenix",
    "base64url.bearer.phx.U0ZNeU5UWS5nMmdEWVNwdUJnQUFpRVJ3bmdGaUFBRlJnQS5nVWVyLWVhdVh4X3lyb1NsQjBJY3dvWVFYRVZfTWlKVVdlSU1VV3V0MzUw",
  ])
  connected()
  assert.equal(FakeWebSocket.last.protocols, undefined)
})

test("the state follows the connection, and off ends the callbacks", () => {
  const socket = socketWith()
  const seen = []
  const refs = [
    socket.onOpen(() => seen.push("open")),
    socket.onClose(event => seen.push(event.code)),
    socket.onError(error => seen.push(error.type)),
    socket.onMessage(message => seen.push(message.event)),
  ]
  assert.equal(socket.connectionState(), "closed")
  socket.connect()
  assert.equal(socket.connectionState(), "connecting")
  FakeWebSocket.last.refuse()
  assert.equal(socket.connectionState(), "closed")
  clock.tick(10)
  FakeWebSocket.last.open()
  assert.ok(socket.isConnected())
  assert.equal(FakeWebSocket.last.binaryType, "arraybuffer")
  FakeWebSocket.last.receive(null, null, "t", "hello", {})
  socket.disconnect(() => seen.push("disconnected"))
  assert.equal(socket.connectionState(), "closing")
  clock.tick(5)
  assert.deepEqual(seen, ["error", 1006, "open", "hello", 1005, "disconnected"])
  socket.off(refs)
  socket.connect()
  FakeWebSocket.last.open()
  assert.equal(seen.length, 6)
})

test("a lost connection is made again, later each time, until it stands", () => {
  const socket = connected()
  FakeWebSocket.last.end(1006)
  const delays = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000, 5000]
  for (const [attempt, delay] of delays.entries()) {
    clock.tick(delay - 1)
    assert.equal(FakeWebSocket.all.length, attempt + 1)
    clock.tick(1)
    assert.equal(FakeWebSocket.all.length, attempt + 2)
    FakeWebSocket.last.refuse()
  }
  clock.tick(5000)
  FakeWebSocket.last.open()
  FakeWebSocket.last.end(1001)
  clock.tick(10)
  assert.equal(FakeWebSocket.all.length, delays.length + 3, "the delays start anew")
  socket.disconnect()
})

test("a server that closes is connected to again, whatever the code", () => {
  for (const code of [1000, 1001, 1005, 1006, 1008, 1011, 1012]) {
    FakeWebSocket.all = []
    connected()
    FakeWebSocket.last.end(code)
    clock.tick(10)
    assert.equal(FakeWebSocket.all.length, 2, `after ${code}`)
  }
})

test("after disconnect nothing is connected, until connect", () => {
  const socket = connected()
  let done = 0
  socket.disconnect(() => done++, 1000, "bye")
  assert.deepEqual(FakeWebSocket.last.closedWith, { code: 1000, reason: "bye" })
  clock.tick(60_000)
  assert.deepEqual([FakeWebSocket.all.length, done], [1, 1])
  socket.connect()
  assert.equal(FakeWebSocket.all.length, 2)
})

test("disconnect does not wait for ever for the other end", () => {
  const socket = connected()
  FakeWebSocket.last.answersClose = false
  const seen = []
  socket.onClose(event => seen.push(event.code))
  socket.disconnect(() => seen.push("done"))
  clock.tick(1500)
  assert.deepEqual(seen, [1006, "done"])
})

test("disconnect ends the attempts to connect", () => {
  const socket = connected()
  FakeWebSocket.last.end(1006)
  socket.disconnect()
  clock.tick(60_000)
  assert.equal(FakeWebSocket.all.length, 1)
})

test("connect right after disconnect opens a new connection, which the old one cannot disturb", () => {
  const socket = connected()
  const channel = socket.channel("room:lobby")
  channel.join()
  FakeWebSocket.last.answerJoin("room:lobby")
  const [old] = FakeWebSocket.all
  let done = 0
  socket.disconnect(() => done++)
  socket.connect()
  const server = FakeWebSocket.last
  assert.notEqual(server, old)
  assert.equal(channel.state, "errored")
  server.open()
  clock.tick(5)
  assert.equal(done, 1)
  assert.ok(socket.isConnected())
  server.answerJoin("room:lobby")
  assert.equal(channel.state, "joined")
})

test("connect connects at once while an attempt is due later", () => {
  const socket = connected({ reconnectAfterMs: () => 5000 })
  FakeWebSocket.last.end(1006)
  socket.connect()
  assert.equal(FakeWebSocket.all.length, 2)
  socket.connect()
  clock.tick(60_000)
  assert.equal(FakeWebSocket.all.length, 2)
})

test("messages sent before the socket is open wait", () => {
  const socket = socketWith()
  const channel = socket.channel("room:lobby", { name: "Alice" })
  channel.join()
  socket.push({ topic: "t", event: "e", payload: {}, ref: "99" })
  socket.connect()
  assert.deepEqual(FakeWebSocket.last.sent, [])
  FakeWebSocket.last.open()
  assert.deepEqual(FakeWebSocket.last.frames.map(it => it[3]), ["phx_join", "e"])
})

test("a join that waited through failed attempts is sent once", () => {
  const socket = socketWith()
  const channel = socket.channel("room:lobby")
  channel.join()
  socket.connect()
  FakeWebSocket.last.refuse()
  clock.tick(10)
  FakeWebSocket.last.refuse()
  clock.tick(50)
  FakeWebSocket.last.open()
  assert.deepEqual(FakeWebSocket.last.frames.map(it => it[3]), ["phx_join"])
  FakeWebSocket.last.answerJoin("room:lobby")
  assert.equal(channel.state, "joined")
})

test("a channel joins again on the next connection, and its presence waits for the new state", () => {
  const socket = connected()
  const channel = socket.channel("room:lobby")
  const presence = new Presence(channel)
  const changes = []
  presence.onJoin(key => changes.push(`+${key}`))
  presence.onLeave(key => changes.push(`-${key}`))
  const errors = []
  channel.onError(reason => errors.push(reason))
  channel.join()
  const first = FakeWebSocket.last.answerJoin("room:lobby")
  FakeWebSocket.last.receive(first, null, "room:lobby", "presence_state", { Alice: { metas: [{ phx_ref: "1" }] } })
  FakeWebSocket.last.end(1006)
  assert.deepEqual(errors, [{ source: "transport", reason: "connection_closed" }])
  assert.equal(channel.state, "errored")
  clock.tick(10)
  const server = FakeWebSocket.last
  server.open()
  const second = server.answerJoin("room:lobby")
  assert.notEqual(second, first)
  assert.ok(presence.inPendingSyncState())
  server.receive(null, null, "room:lobby", "presence_diff", { joins: { Carol: { metas: [{ phx_ref: "3" }] } }, leaves: {} })
  assert.deepEqual(Object.keys(presence.state), ["Alice"])
  server.receive(second, null, "room:lobby", "presence_state", { Bob: { metas: [{ phx_ref: "2" }] } })
  assert.deepEqual(Object.keys(presence.state), ["Bob", "Carol"])
  assert.deepEqual(changes, ["+Alice", "+Bob", "-Alice", "+Carol"])
})

test("heartbeats are sent while they are answered", () => {
  const socket = connected({ heartbeatIntervalMs: 1000 })
  const server = FakeWebSocket.last
  for (let beat = 1; beat <= 3; beat++) {
    clock.tick(1000)
    assert.equal(server.sent.length, beat)
    const [joinRef, ref, topic, event, payload] = JSON.parse(server.sent.at(-1))
    assert.deepEqual([joinRef, topic, event, payload], [null, "phoenix", "heartbeat", {}])
    server.receive(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} })
  }
  assert.ok(socket.isConnected())
})

test("a heartbeat without an answer closes the connection and makes another", () => {
  const socket = connected({ heartbeatIntervalMs: 1000 })
  const [server] = FakeWebSocket.all
  const channel = socket.channel("room:lobby")
  const errors = []
  channel.onError(reason => errors.push(reason.reason))
  channel.join()
  server.answerJoin("room:lobby")
  clock.tick(2000)
  assert.deepEqual(server.closedWith, { code: 1000, reason: "heartbeat timeout" })
  assert.deepEqual(errors, ["heartbeat_timeout"])
  clock.tick(5 + 10)
  assert.equal(FakeWebSocket.all.length, 2)
  FakeWebSocket.last.open()
  FakeWebSocket.last.answerJoin("room:lobby")
  assert.equal(channel.state, "joined")
})

test("a dead connection that never confirms its close is replaced all the same", () => {
  connected({ heartbeatIntervalMs: 1000 })
  FakeWebSocket.last.answersClose = false
  clock.tick(2000)
  clock.tick(1500 + 10)
  assert.equal(FakeWebSocket.all.length, 2)
})

test("ping measures the round trip", () => {
  const socket = socketWith()
  assert.equal(socket.ping(() => {}), false)
  socket.connect()
  FakeWebSocket.last.open()
  const seen = []
  assert.equal(socket.ping(time => seen.push(time)), true)
  const [, ref] = JSON.parse(FakeWebSocket.last.sent[0])
  clock.tick(30)
  FakeWebSocket.last.receive(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} })
  FakeWebSocket.last.receive(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} })
  assert.deepEqual(seen, [30])
})

/** A server that only speaks HTTP: opens a session, then holds the polls. */
function fakeLongPollServer() {
  const requests = []
  globalThis.fetch = async (url, options) => {
    requests.push({ url: String(url), ...options })
    if (options.method === "POST") return Response.json({ status: 200 })
    if (!String(url).includes("token=")) return Response.json({ status: 410, token: "T", messages: [] })
    return new Promise((resolve, reject) => options.signal.addEventListener("abort", () => reject(new Error("aborted"))))
  }
  return requests
}

function memory() {
  const items = new Map()
  return { items, getItem: key => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) }
}

test("a WebSocket that cannot open gives way to LongPoll, and the session remembers", async () => {
  const realFetch = globalThis.fetch
  const requests = fakeLongPollServer()
  const sessionStorage = memory()
  try {
    const socket = socketWith({ longPollFallbackMs: 2500, sessionStorage })
    const channel = socket.channel("room:lobby")
    channel.join()
    socket.connect()
    FakeWebSocket.last.refuse()
    assert.equal(socket.transport, LongPoll)
    clock.tick(2)
    await settled()
    assert.ok(socket.isConnected())
    assert.equal(sessionStorage.items.get("phx:fallback:LongPoll"), "true")
    clock.tick(2)
    await settled()
    const posts = requests.filter(it => it.method === "POST")
    assert.deepEqual(posts.map(it => JSON.parse(it.body)[3]), ["phx_join"])
    socket.disconnect()

    FakeWebSocket.all = []
    const next = socketWith({ longPollFallbackMs: 2500, sessionStorage })
    next.connect()
    assert.equal(FakeWebSocket.all.length, 0)
    assert.equal(next.transport, LongPoll)
    next.disconnect()
  } finally {
    globalThis.fetch = realFetch
  }
})

test("a WebSocket that opens but does not answer gives way too; one that answers stays", async () => {
  const realFetch = globalThis.fetch
  fakeLongPollServer()
  try {
    const mute = socketWith({ longPollFallbackMs: 2500, sessionStorage: memory() })
    mute.connect()
    FakeWebSocket.last.open()
    clock.tick(2500)
    assert.equal(mute.transport, LongPoll)
    mute.disconnect()

    const sound = socketWith({ longPollFallbackMs: 2500, sessionStorage: memory() })
    sound.connect()
    FakeWebSocket.last.open()
    const [, ref] = JSON.parse(FakeWebSocket.last.sent[0])
    FakeWebSocket.last.receive(null, ref, "phoenix", "phx_reply", { status: "ok", response: {} })
    clock.tick(10_000)
    assert.equal(sound.transport, FakeWebSocket)
    sound.disconnect()
  } finally {
    globalThis.fetch = realFetch
  }
})
