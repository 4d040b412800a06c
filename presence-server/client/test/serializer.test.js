import assert from "node:assert/strict"
import { test } from "node:test"
import { Serializer } from "../index.js"

const hex = buffer => Buffer.from(buffer).toString("hex")
const bytes = text => Uint8Array.from(Buffer.from(text, "hex")).buffer

test("text messages are arrays of five", () => {
  const message = { join_ref: "1", ref: "2", topic: "conf:1", event: "echo", payload: { a: [1, null] } }
  assert.equal(Serializer.encode(message), '["1","2","conf:1","echo",{"a":[1,null]}]')
  assert.deepEqual(Serializer.decode('["1","2","conf:1","echo",{"a":[1,null]}]'), message)
  assert.equal(Serializer.encode({ ref: "3", topic: "phoenix", event: "heartbeat", payload: {} }), '[null,"3","phoenix","heartbeat",{}]')
})

test("results also go to a callback, as in phoenix.js", () => {
  assert.equal(Serializer.encode({ topic: "t", event: "e", payload: {} }, it => it.length), '[null,null,"t","e",{}]'.length)
  assert.equal(Serializer.decode('[null,null,"t","e",{}]', it => it.topic), "t")
})

test("a binary push is as recorded", () => {
  const message = { join_ref: "1", ref: "12", topic: "conf:1", event: "echo", payload: bytes("0001ff") }
  assert.equal(hex(Serializer.encode({ ...message, ref: "2" })), "00010106043132636f6e663a316563686f0001ff")
  const view = new Uint8Array([9, 0, 1, 255, 9]).subarray(1, 4)
  assert.equal(hex(Serializer.encode({ ...message, ref: "2", payload: view })), "00010106043132636f6e663a316563686f0001ff")
})

test("a binary reply, push and broadcast are read as recorded", () => {
  const decode = text => {
    const message = Serializer.decode(bytes(text))
    const payload = message.payload instanceof ArrayBuffer
      ? hex(message.payload)
      : { ...message.payload, response: hex(message.payload.response) }
    return { ...message, payload }
  }
  assert.deepEqual(decode("01010106023132636f6e663a316f6b0001ff"), {
    join_ref: "1", ref: "2", topic: "conf:1", event: "phx_reply", payload: { status: "ok", response: "0001ff" },
  })
  assert.deepEqual(decode("0001060631636f6e663a31707573686564"), {
    join_ref: "1", ref: null, topic: "conf:1", event: "pushed", payload: "",
  })
  assert.deepEqual(decode("020605636f6e663a3173686f75746279746573"), {
    join_ref: null, ref: null, topic: "conf:1", event: "shout", payload: "6279746573",
  })
})

test("a binary push has room for 255 bytes of topic", () => {
  const message = { join_ref: "1", ref: "2", event: "e", payload: new ArrayBuffer(0) }
  assert.equal(Serializer.encode({ ...message, topic: "t".repeat(255) }).byteLength, 5 + 2 + 255 + 1)
  assert.throws(() => Serializer.encode({ ...message, topic: "ü".repeat(128) }), /topic takes 256 bytes/)
})

test("a binary frame of another kind is an error", () => {
  assert.throws(() => Serializer.decode(bytes("09")), /unknown kind 9/)
})
