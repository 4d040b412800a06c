/** @import { Channel } from "./channel.js" */

/** One event sent to a channel, and the reply it waits for. */
export class Push {
  /** The number that the reply will repeat; a new one each time the push is sent. @type {string | null} */
  ref = null
  #hooks = []
  #reply = null
  #timer

  /**
   * @param {Channel} channel
   * @param {string} event
   * @param {() => any} payload asked for each time the push is sent
   * @param {number} timeout milliseconds to wait for a reply
   */
  constructor(channel, event, payload, timeout) {
    this.channel = channel
    this.event = event
    this.payload = payload
    this.timeout = timeout
  }

  /**
   * Calls back with the response once a reply has this status, at once if it is here already.
   *
   * @param {"ok" | "error" | "timeout" | string} status
   * @param {(response: any) => void} callback
   * @returns {this}
   */
  receive(status, callback) {
    if (this.#reply?.status === status) callback(this.#reply.response)
    this.#hooks.push({ status, callback })
    return this
  }

  /** Sends the push, unless it timed out while it was waiting to be sent. */
  send() {
    if (this.#reply?.status === "timeout") return
    this.await()
    const { channel, event, ref } = this
    const { topic, socket } = channel
    socket.push({ topic, event, payload: this.payload(), ref, join_ref: channel.joinRef() }, channel)
  }

  /**
   * Sends the push once more, as if it were new.
   *
   * @param {number} timeout
   */
  resend(timeout) {
    this.timeout = timeout
    this.reset()
    this.send()
  }

  /** Takes a ref and starts to wait for its reply. @internal */
  await() {
    this.stopWaiting()
    this.ref = this.channel.socket.makeRef()
    this.channel.awaited.set(this.ref, this)
    this.#timer = setTimeout(() => this.settle({ status: "timeout", response: {} }), this.timeout)
  }

  /** Ends the wait with a reply. @internal */
  settle(reply) {
    this.stopWaiting()
    this.#reply = reply
    for (const { status, callback } of [...this.#hooks]) {
      if (status === reply.status) callback(reply.response)
    }
  }

  /** Forgets what was sent; its reply will be ignored. @internal */
  reset() {
    this.stopWaiting()
    this.ref = null
    this.#reply = null
  }

  /** Waits no longer: neither a reply nor the timeout will be noticed. @internal */
  stopWaiting() {
    clearTimeout(this.#timer)
    this.channel.awaited.delete(this.ref)
  }
}
