import assert from "node:assert/strict"
import { afterEach, beforeEach, test } from "node:test"
import { LongPoll, Socket } from "../index.js"
import { settled } from "./fakes.js"

const realFetch = globalThis.fetch
let requests

/** Requests wait in `requests` until the test answers them. */
beforeEach(() => {
  requests = []
  globalThis.fetch = (url, options) =>
    new Promise((resolve, reject) => {
      const request = { url: new URL(url), ...options, done: false }
      request.answer = (json, init) => {
        request.done = true
        resolve(typeof json === "string" ? new Response(json, init) : Response.json(json, init))
      }
      request.fail = () => {
        request.done = true
        reject(new TypeError("fetch failed"))
      }
      options.signal.addEventListener("abort", () => {
        request.aborted = true
        reject(options.signal.reason)
      })
      requests.push(request)
    })
})
afterEach(() => {
  globalThis.fetch = realFetch
})

/** Waits for timers of no delay, and all that follows. */
async function turn() {
  for (let i = 0; i < 3; i++) {
    await new Promise(resolve => setTimeout(resolve, 2))
    await settled()
  }
}

const waiting = method => requests.filter(it => it.method === method && !it.done && !it.aborted)

/** Answers the request that waits, which must be the only one of its method. */
async function answer(method, json, init) {
  await turn()
  const found = waiting(method)
  assert.equal(found.length, 1, `${found.length} ${method} requests wait`)
  found[0].answer(json, init)
  await turn()
  return found[0]
}

function longPoll(protocols) {
  const conn = new LongPoll("ws://host/socket/websocket?vsn=2.0.0", protocols)
  const seen = []
  conn.onopen = () => seen.push("open")
  conn.onmessage = event => seen.push(JSON.parse(event.data)[4])
  conn.onerror = error => seen.push(["error", error])
  conn.onclose = ({ code, reason, wasClean }) => seen.push(["close", code, reason, wasClean])
  return { conn, seen }
}

const opened = { messages: [], status: 410, token: "T1" }

test("the recorded session: opened with 410, messages posted as lines, replies polled", async () => {
  const socket = new Socket("ws://host/socket", { transport: LongPoll })
  const channel = socket.channel("conf:lp")
  const seen = []
  channel.join().receive("ok", () => seen.push("joined"))
  socket.connect()
  assert.equal(socket.connectionState(), "connecting")
  const first = await answer("GET", opened)
  assert.equal(first.url.href, "http://host/socket/longpoll?vsn=2.0.0")
  assert.ok(socket.isConnected())

  const join = await answer("POST", { status: 200 })
  assert.equal(join.url.href, "http://host/socket/longpoll?vsn=2.0.0&token=T1")
  assert.equal(join.headers["content-type"], "application/x-ndjson")
  const ref = channel.joinRef()
  assert.deepEqual(JSON.parse(join.body), [ref, ref, "conf:lp", "phx_join", {}])

  const reply = (ref, response) => JSON.stringify([channel.joinRef(), ref, "conf:lp", "phx_reply", { response, status: "ok" }])
  const second = await answer("GET", { messages: [reply(ref, {})], status: 200, token: "T2" })
  assert.equal(second.url.searchParams.get("token"), "T1")
  assert.deepEqual(seen, ["joined"])

  const ok = channel.push("ok").receive("ok", () => seen.push("ok"))
  const echo = channel.push("echo", { x: 1 }).receive("ok", response => seen.push(response))
  const both = await answer("POST", { status: 200 })
  assert.equal(both.url.searchParams.get("token"), "T2")
  assert.deepEqual(both.body.split("\n").map(line => JSON.parse(line)[3]), ["ok", "echo"])
  await answer("GET", { messages: [reply(ok.ref, {}), reply(echo.ref, { x: 1 })], status: 200, token: "T2" })
  await answer("GET", { messages: [], status: 204, token: "T2" })
  assert.deepEqual(seen, ["joined", "ok", { x: 1 }])

  socket.disconnect()
  await turn()
  assert.equal(waiting("GET").length, 0)
})

test("a presence_diff that is polled reaches the channel", async () => {
  const { conn, seen } = longPoll()
  await answer("GET", opened)
  const diff = { joins: { u: { metas: [{ phx_ref: "1" }] } }, leaves: {} }
  await answer("GET", { messages: [JSON.stringify([null, null, "conf:lp", "presence_diff", diff])], status: 200, token: "T1" })
  assert.deepEqual(seen, ["open", diff])
  conn.close()
})

test("a session that is gone is an error, after which the socket starts another", async () => {
  const { seen } = longPoll()
  await answer("GET", opened)
  await answer("GET", { status: 410, token: "T9", messages: [] })
  assert.deepEqual(seen, ["open", ["error", 410], ["close", 3410, "session_gone", false]])
  assert.equal(requests.length, 2)
})

test("a refused connect is error 403 and closed with 1008", async () => {
  const { conn, seen } = longPoll()
  await answer("GET", { status: 403 })
  assert.deepEqual(seen, [["error", 403], ["close", 1008, "forbidden", false]])
  assert.equal(conn.readyState, 3)
})

test("a post to a session that is gone closes the connection", async () => {
  const { conn, seen } = longPoll()
  await answer("GET", opened)
  conn.send('["1","1","conf:lp","phx_join",{}]')
  await answer("POST", { status: 410 })
  assert.deepEqual(seen, ["open", ["error", 410], ["close", 1011, "internal server error", false]])
  assert.equal(waiting("GET").length, 0)
})

test("a server that is gone, or a proxy's page in its place, closes the connection", async () => {
  const closed = ["close", 1011, "internal server error", false]
  const gone = longPoll()
  await turn()
  waiting("GET")[0].fail()
  await turn()
  assert.deepEqual(gone.seen, [["error", 500], closed])
  const proxy = longPoll()
  await answer("GET", "<h1>Bad gateway</h1>", { status: 502 })
  assert.deepEqual(proxy.seen, [["error", 500], closed])
})

test("a request that is not answered in time closes the connection", async () => {
  const { conn, seen } = longPoll()
  conn.timeout = 20
  await new Promise(resolve => setTimeout(resolve, 60))
  await turn()
  assert.deepEqual(seen, [["error", "timeout"], ["close", 1005, "timeout", false]])
})

test("an auth token goes into a header", async () => {
  const { conn } = longPoll(["phoenix", "base64url.bearer.phx.YT9-_w"])
  await turn()
  assert.equal(requests[0].headers["x-phoenix-authtoken"], atob("YT9+/w=="))
  conn.close()
})

test("one post is under way at a time, of a hundred messages at most", async () => {
  const { conn } = longPoll()
  await answer("GET", opened)
  for (let i = 0; i < 150; i++) conn.send(`[${i}]`)
  await turn()
  conn.send("[150]")
  assert.equal(waiting("POST").length, 1)
  const first = await answer("POST", { status: 200 })
  const second = await answer("POST", { status: 200 })
  assert.equal(first.body.split("\n").length, 100)
  assert.equal(second.body.split("\n").length, 51)
  conn.send("[151]")
  assert.equal((await answer("POST", { status: 200 })).body, "[151]")
  conn.close()
})

test("binary messages are posted as base64 lines", async () => {
  const { conn } = longPoll()
  await answer("GET", opened)
  conn.send(Uint8Array.of(0, 1, 255).buffer)
  assert.equal((await answer("POST", { status: 200 })).body, "AAH/")
  conn.close()
})

test("a binary message that is polled is handed over as an ArrayBuffer", async () => {
  const { conn } = longPoll()
  const received = []
  conn.onmessage = ({ data }) => received.push(data)
  await answer("GET", opened)
  const messages = ["data:application/octet-stream;base64,AP8KWw==", "data:application/octet-stream;base64,"]
  await answer("GET", { messages, status: 200, token: "T1" })
  assert.deepEqual(received, [Uint8Array.of(0, 255, 10, 91).buffer, new ArrayBuffer(0)])
  conn.close()
})

test("close ends the polls and is reported once", async () => {
  const { conn, seen } = longPoll()
  await answer("GET", opened)
  conn.close()
  conn.close()
  await turn()
  assert.deepEqual(seen, ["open", ["close", 1005, "", true]])
  assert.ok(requests.at(-1).aborted)
  assert.equal(requests.length, 2)
})
