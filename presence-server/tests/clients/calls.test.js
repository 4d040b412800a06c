/** Replies, broadcasts, binary payloads and tokens: phoenix.js and the project's client with the conformance application. */

import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { after, afterEach, before, describe, test } from "node:test"
import * as phoenix from "phoenix"
import { WebSocket as WsWebSocket } from "ws"
import * as own from "../../client/index.js"
import { event, until } from "./expect.js"
import { Server } from "./server.js"
import { QUICK, VERSION_1 } from "./tab.js"

// phoenix.js cannot read a binary message over long polling, nor can Phoenix send one.
const CLIENTS = {
  "phoenix.js": [phoenix, { transport: WsWebSocket }, "binary"],
  "phoenix.js, serializer 1.0.0": [phoenix, { transport: WsWebSocket, ...VERSION_1 }],
  "phoenix.js over long polling": [phoenix, { transport: phoenix.LongPoll }],
  "the client": [own, { transport: globalThis.WebSocket ?? WsWebSocket }, "binary"],
  "the client over long polling": [own, { transport: own.LongPoll }, "binary"],
}
/** How long, in ms, the client waits for an answer that does not come. */
const SHORT = 100
// Recorded from Phoenix, and good for ten years from 2026 on.
const TOKENS = JSON.parse(await readFile(new URL("../../../conformance/fixtures/token.json", import.meta.url)))
const token = name => TOKENS.cases.find(it => it.case === name).token
const BYTES = Uint8Array.of(0, 255, 10, 13, 91, 123, 34)

for (const [name, [{ Socket }, options, binary]] of Object.entries(CLIENTS)) {
  describe(name, () => {
    let server
    before(async () => (server = await Server.start("--app", "conformance")))
    after(() => server.stop())

    const sockets = []
    afterEach(() => Promise.all(sockets.splice(0).map(socket => new Promise(done => socket.disconnect(done)))))

    function connect(more) {
      const socket = new Socket(server.socket, { ...QUICK, ...options, ...more })
      sockets.push(socket)
      socket.connect()
      return socket
    }

    /** Connects, and joins a topic. */
    async function join() {
      const channel = connect().channel("conf:calls")
      assert.deepEqual(await answer(channel.join()), ["ok", {}])
      return channel
    }

    test("a push is answered with ok, with an error, or not at all", async () => {
      const channel = await join()
      assert.deepEqual(await answer(channel.push("echo", { a: [1, "ü"] })), ["ok", { a: [1, "ü"] }])
      assert.deepEqual(await answer(channel.push("fail", { why: "no" })), ["error", { why: "no" }])
      assert.deepEqual(await answer(channel.push("ok", {})), ["ok", {}])
      assert.deepEqual((await answer(channel.push("noreply", {}, SHORT)))[0], "timeout")
    })

    test("many pushes at once are answered in their order", async () => {
      const channel = await join()
      const answers = []
      for (let n = 0; n < 250; n++) channel.push("echo", { n }).receive("ok", payload => answers.push(payload.n))
      await until("the answers", () => answers, Array.from({ length: 250 }, (_, n) => n))
    })

    test("a broadcast reaches everyone, or everyone else", async () => {
      const [one, two] = [await join(), await join()]
      const heard = { one: [], two: [] }
      one.on("shout", payload => heard.one.push(payload))
      two.on("shout", payload => heard.two.push(payload))
      one.push("shout", { to: "all" }, SHORT)
      assert.deepEqual(await answer(one.push("shout_from", { to: "others" })), ["ok", {}])
      one.push("shout", { to: "all again" }, SHORT)
      await until("what the sender and another client hear", () => heard, {
        one: [{ to: "all" }, { to: "all again" }],
        two: [{ to: "all" }, { to: "others" }, { to: "all again" }],
      })
    })

    test("a join is answered, or refused with a reason", async () => {
      const socket = (await join()).socket
      assert.deepEqual(await answer(socket.channel("conf:reply", { reply: { hi: 1 } }).join()), ["ok", { hi: 1 }])
      const refused = socket.channel("conf:no", { reject: "full" })
      assert.deepEqual(await answer(refused.join()), ["error", { reason: "full" }])
      const nowhere = socket.channel("nowhere")
      assert.deepEqual(await answer(nowhere.join()), ["error", { reason: "unmatched topic" }])
    })

    test("a channel that crashes is joined again, and its presences are gone", async () => {
      const [channel, other] = [await join(), await join()]
      assert.equal((await answer(channel.push("track", { key: "u", meta: {} })))[0], "ok")
      await until("the list with u", () => keys(other), ["u"])
      const crashed = event("the crash", done => channel.onError(done))
      channel.push("crash", {}, SHORT)
      await crashed
      await until("the list without u", () => keys(other), [])
      await until("the channel", () => channel.state, "joined")
      assert.deepEqual(await answer(channel.push("echo", { again: true })), ["ok", { again: true }])
    })

    test("a channel that the server stops is closed", async () => {
      const channel = await join()
      const closed = event("the close", done => channel.onClose(done))
      assert.deepEqual(await answer(channel.push("stop_reply", { bye: 1 })), ["ok", { bye: 1 }])
      await closed
      assert.equal(channel.state, "closed")
    })

    for (const [where, as] of [["as a param", token => ({ params: { token } })], ["as authToken", authToken => ({ authToken })]]) {
      test(`a token ${where} lets its user in, a forged one nobody`, async () => {
        const socket = connect(as(token("string id")))
        const joined = socket.channel("conf:calls", { user: true }).join()
        assert.deepEqual(await answer(joined), ["ok", { user_id: "user-7" }])

        const refused = connect(as(token("signature tampered")))
        refused.onOpen(() => assert.fail("a forged token is let in"))
        await event("the refusal", done => refused.onError(done))
        await event("another refusal", done => refused.onError(done))
      })
    }

    if (binary) {
      test("a binary payload is replied, pushed and broadcast as it is", async () => {
        const [one, two] = [await join(), await join()]
        const [status, response] = await answer(one.push("echo", BYTES.buffer))
        assert.equal(status, "ok")
        assert.deepEqual(new Uint8Array(response), BYTES)

        const pushed = event("the push", done => one.on("pushed", done))
        one.push("push", BYTES.buffer, SHORT)
        assert.deepEqual(new Uint8Array(await pushed), BYTES)

        const shouted = event("the broadcast", done => two.on("shout", done))
        one.push("shout", BYTES.buffer, SHORT)
        assert.deepEqual(new Uint8Array(await shouted), BYTES)
      })
    }
  })
}

/** The reply to a push or join, as status and response. */
function answer(push) {
  return event(`an answer to ${push.event}`, done => {
    for (const status of ["ok", "error", "timeout"]) push.receive(status, response => done([status, response]))
  })
}

async function keys(channel) {
  const [, { presences }] = await answer(channel.push("list", {}))
  return Object.keys(presences).sort()
}
