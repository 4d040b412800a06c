import { Backoff } from "./backoff.js"
import { Push } from "./push.js"

/** @import { Socket } from "./socket.js" */

/**
 * A conversation about one topic. `socket.channel(topic, params)` makes one.
 *
 * It is `closed` until it is joined, `joining` until the server answers, then `joined`. It becomes
 * `errored` when the join is refused or times out, when the server's channel crashes or when the
 * connection is lost, and joins again by itself. It is `leaving`, then `closed` for good, after
 * `leave`, and `closed` too when the server's channel stops.
 */
export class Channel {
  /** @type {"closed" | "errored" | "joining" | "joined" | "leaving"} */
  state = "closed"
  /** Whether `join` was called. */
  joinedOnce = false
  /** The pushes that wait for a reply, by ref. @internal @type {Map<string, Push>} */
  awaited = new Map()
  #bindings = []
  #bindingRef = 0
  #pushBuffer = []
  #rejoinTimer

  /**
   * @param {string} topic
   * @param {object | (() => object)} params the payload of the join, asked for at each join
   * @param {Socket} socket
   */
  constructor(topic, params, socket) {
    this.topic = topic
    this.params = typeof params === "function" ? params : () => params ?? {}
    this.socket = socket
    this.timeout = socket.timeout
    this.joinPush = new Push(this, "phx_join", this.params, this.timeout)
      .receive("ok", () => {
        this.state = "joined"
        this.#rejoinTimer.reset()
        for (const push of this.#pushBuffer.splice(0)) push.send()
      })
      .receive("error", () => this.#fail())
      .receive("timeout", () => {
        socket.log("channel", `no answer to the join of ${topic}`, this.joinRef())
        new Push(this, "phx_leave", () => ({}), this.timeout).send()
        this.joinPush.reset()
        this.#fail()
      })
    this.#rejoinTimer = new Backoff(() => {
      if (socket.isConnected()) this.rejoin()
    }, socket.rejoinAfterMs)
  }

  /**
   * Joins the topic. Can be called once; after a failure the channel joins again by itself.
   *
   * @param {number} [timeout]
   * @returns {Push} receives "ok", "error" or "timeout", at each attempt
   */
  join(timeout = this.timeout) {
    if (this.joinedOnce) throw new Error(`${this.topic} was joined already; make another channel to join it again`)
    this.joinedOnce = true
    this.timeout = timeout
    this.rejoin()
    return this.joinPush
  }

  /**
   * Leaves the topic for good. The channel is closed at once, without waiting for the server.
   *
   * @param {number} [timeout]
   * @returns {Push}
   */
  leave(timeout = this.timeout) {
    this.#rejoinTimer.reset()
    this.joinPush.stopWaiting()
    this.state = "leaving"
    const push = new Push(this, "phx_leave", () => ({}), timeout)
    push.send()
    push.settle({ status: "ok", response: {} })
    this.trigger("phx_close", "leave")
    return push
  }

  /**
   * Sends an event to the server, once the channel is joined.
   *
   * @param {string} event
   * @param {any} [payload] anything JSON can say, or an ArrayBuffer or a view of one
   * @param {number} [timeout]
   * @returns {Push}
   */
  push(event, payload, timeout = this.timeout) {
    if (!this.joinedOnce) throw new Error(`${this.topic} must be joined before "${event}" can be pushed to it`)
    const push = new Push(this, event, () => payload ?? {}, timeout)
    if (this.canPush()) {
      push.send()
    } else {
      push.await()
      this.#pushBuffer.push(push)
    }
    return push
  }

  /**
   * Calls back at each such event from the server.
   *
   * @param {string} event
   * @param {(payload: any, ref: string | null, joinRef: string | null) => void} callback
   * @returns {number} a ref for `off`
   */
  on(event, callback) {
    const ref = this.#bindingRef++
    this.#bindings.push({ event, ref, callback })
    return ref
  }

  /**
   * Removes the callbacks of an event, or the one with this ref.
   *
   * @param {string} event
   * @param {number} [ref]
   */
  off(event, ref) {
    this.#bindings = this.#bindings.filter(it => it.event !== event || (ref !== undefined && it.ref !== ref))
  }

  /** Calls back when the channel is closed, by `leave` or by the server. */
  onClose(callback) {
    return this.on("phx_close", callback)
  }

  /** Calls back when the channel crashed or its connection was lost; it will join again. */
  onError(callback) {
    return this.on("phx_error", reason => callback(reason))
  }

  /**
   * Can be replaced to look at, or change, each payload before the callbacks get it.
   *
   * @param {string} event
   * @param {any} payload
   * @returns {any} the payload
   */
  onMessage(event, payload) {
    return payload
  }

  /** The ref of the latest join; messages that carry another one are stale. */
  joinRef() { return this.joinPush.ref }

  /** Whether a push would be sent at once. */
  canPush() { return this.socket.isConnected() && this.isJoined() }
  isClosed() { return this.state === "closed" }
  isErrored() { return this.state === "errored" }
  isJoining() { return this.state === "joining" }
  isJoined() { return this.state === "joined" }
  isLeaving() { return this.state === "leaving" }

  /** Whether a message is for this channel and this join of it. @internal */
  isMember(topic, event, payload, joinRef) {
    if (topic !== this.topic) return false
    if (!joinRef || joinRef === this.joinRef()) return true
    this.socket.log("channel", `${event} of an earlier join of ${topic} is ignored`, { payload, joinRef })
    return false
  }

  /** Joins, now. Another channel of the same topic is left: a socket has one. @internal */
  rejoin(timeout = this.timeout) {
    if (this.isLeaving()) return
    this.socket.leaveOpenTopic(this.topic)
    this.state = "joining"
    this.joinPush.resend(timeout)
  }

  /** Takes in a message: settles the push it answers, changes the state, calls back. @internal */
  trigger(event, payload, ref = null, joinRef = null) {
    const handled = this.onMessage(event, payload, ref, joinRef)
    if (payload && !handled) throw new Error("onMessage must return the payload")
    if (event === "phx_reply") this.awaited.get(ref)?.settle(handled)
    if (event === "phx_close") this.#close()
    if (event === "phx_error") {
      if (this.isJoining()) this.joinPush.reset()
      this.#fail()
    }
    for (const binding of this.#bindings.filter(it => it.event === event)) {
      binding.callback(handled, ref, joinRef ?? this.joinRef())
    }
  }

  /** The socket has connected. @internal */
  connected() {
    this.#rejoinTimer.reset()
    if (this.isErrored()) this.rejoin()
  }

  /** The socket failed to connect, or its connection broke. @internal */
  disconnected() {
    this.#rejoinTimer.reset()
  }

  #close() {
    this.#rejoinTimer.reset()
    this.joinPush.stopWaiting()
    this.state = "closed"
    this.socket.remove(this)
  }

  #fail() {
    this.state = "errored"
    if (this.socket.isConnected()) this.#rejoinTimer.schedule()
  }
}
