/**
 * A message on the wire.
 *
 * @typedef {object} Message
 * @property {string | null} join_ref the ref of the join that the message belongs to
 * @property {string | null} ref the number of a push, which its reply repeats
 * @property {string} topic
 * @property {string} event
 * @property {any} payload
 */

const PUSH = 0
const REPLY = 1
const HEADERS = [["join_ref", "topic", "event"], ["join_ref", "ref", "topic", "event"], ["topic", "event"]]
const isBinary = value => value instanceof ArrayBuffer || ArrayBuffer.isView(value)

/** Version 2.0.0 of the wire format: a JSON array, or a binary frame where the payload is binary. */
export const Serializer = {
  /**
   * Encodes a message for a transport's `send`.
   *
   * @template T
   * @param {Message} message
   * @param {(encoded: string | ArrayBuffer) => T} [callback] gets the result
   * @returns {T | string | ArrayBuffer} what the callback returns; without one, the result
   */
  encode(message, callback = encoded => encoded) {
    if (isBinary(message.payload)) return callback(encodePush(message))
    const { join_ref = null, ref = null, topic, event, payload } = message
    return callback(JSON.stringify([join_ref, ref, topic, event, payload]))
  },

  /**
   * Decodes the data that a transport received.
   *
   * @template T
   * @param {string | ArrayBuffer} data
   * @param {(message: Message) => T} [callback] gets the result
   * @returns {T | Message} what the callback returns; without one, the result
   */
  decode(data, callback = message => message) {
    if (isBinary(data)) return callback(decodeBinary(data))
    const [join_ref, ref, topic, event, payload] = JSON.parse(data)
    return callback({ join_ref, ref, topic, event, payload })
  },
}

/** A push: its kind, the four lengths, the four texts, then the payload as it is. */
function encodePush(message) {
  const texts = ["join_ref", "ref", "topic", "event"].map(name => {
    const text = new TextEncoder().encode(message[name] ?? "")
    if (text.length > 255) throw new Error(`${name} takes ${text.length} bytes; a binary push has room for 255`)
    return text
  })
  const { payload } = message
  const body = ArrayBuffer.isView(payload)
    ? new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength)
    : new Uint8Array(payload)
  const parts = [Uint8Array.of(PUSH, ...texts.map(text => text.length)), ...texts, body]
  const frame = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    frame.set(part, at)
    at += part.length
  }
  return frame.buffer
}

/** What a server sends: pushes, replies (with the status in place of the event) and broadcasts. */
function decodeBinary(data) {
  const bytes = ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data)
  const names = HEADERS[bytes[0]]
  if (!names) throw new Error(`a binary frame of the unknown kind ${bytes[0]}`)
  const message = { join_ref: null, ref: null }
  let at = 1 + names.length
  names.forEach((name, index) => {
    const end = at + bytes[1 + index]
    message[name] = new TextDecoder().decode(bytes.subarray(at, end))
    at = end
  })
  message.payload = bytes.slice(at).buffer
  if (bytes[0] === REPLY) {
    message.payload = { status: message.event, response: message.payload }
    message.event = "phx_reply"
  }
  return message
}
