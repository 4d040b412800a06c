import { Backoff, RECONNECT_DELAYS, REJOIN_DELAYS, stepped } from "./backoff.js"
import { Channel } from "./channel.js"
import { authProtocols, LongPoll } from "./longpoll.js"
import { Serializer } from "./serializer.js"

/** @import { Message } from "./serializer.js" */

const STATES = ["connecting", "open", "closing", "closed"]
const CLOSE_TIMEOUT = 1500
const FALLBACK_KEY = "phx:fallback:LongPoll"

/**
 * @typedef {object} SocketOptions
 * @property {object | (() => object)} [params] sent with each connect, asked for each time
 * @property {string | (() => string)} [authToken] sent as a sub-protocol, or in a header by LongPoll
 * @property {typeof WebSocket | typeof LongPoll} [transport] WebSocket, where there is one
 * @property {number} [timeout] milliseconds to wait for the reply to a push; 10,000
 * @property {number} [heartbeatIntervalMs] 30,000
 * @property {(tries: number) => number} [reconnectAfterMs] see RECONNECT_DELAYS
 * @property {(tries: number) => number} [rejoinAfterMs] see REJOIN_DELAYS
 * @property {number} [longPollFallbackMs] turn to LongPoll when a WebSocket has not answered by then
 * @property {number} [longpollerTimeout] milliseconds a long-poll request may take; 20,000
 * @property {Storage} [sessionStorage] remembers that the fallback was needed
 * @property {BinaryType} [binaryType] "arraybuffer"
 * @property {string} [vsn] "2.0.0", the only one that the serializer speaks
 * @property {(kind: string, message: string, data: any) => void} [logger]
 */

/**
 * A connection to a server, shared by any number of channels.
 *
 * It connects again whenever the connection is lost, until `disconnect` is called.
 */
export class Socket {
  /** The channels that are not closed. @type {Channel[]} */
  channels = []
  /** The WebSocket or LongPoll in use. @type {WebSocket | LongPoll | null} */
  conn = null
  #wanted = false
  #connections = 0
  #ref = 0
  #callbacks = { open: new Map(), close: new Map(), error: new Map(), message: new Map() }
  #sendBuffer = []
  #pings = new Map()
  #reconnectTimer
  #heartbeat = { ref: null, timer: undefined }
  #fallback = { timer: undefined, watching: false, used: false, proven: false }

  /**
   * @param {string} endPoint such as `/socket` or `wss://example.com/socket`
   * @param {SocketOptions} [options]
   */
  constructor(endPoint, options = {}) {
    this.endPoint = `${endPoint}/websocket`
    this.params = asFunction(options.params ?? {})
    this.authToken = options.authToken && asFunction(options.authToken)
    this.transport = options.transport ?? globalThis.WebSocket ?? LongPoll
    this.timeout = options.timeout ?? 10_000
    this.heartbeatIntervalMs = options.heartbeatIntervalMs ?? 30_000
    this.reconnectAfterMs = options.reconnectAfterMs ?? stepped(RECONNECT_DELAYS)
    this.rejoinAfterMs = options.rejoinAfterMs ?? stepped(REJOIN_DELAYS)
    this.longPollFallbackMs = options.longPollFallbackMs
    this.longpollerTimeout = options.longpollerTimeout ?? 20_000
    this.sessionStorage = options.sessionStorage
    this.binaryType = options.binaryType ?? "arraybuffer"
    this.vsn = options.vsn ?? "2.0.0"
    this.logger = options.logger
    this.#reconnectTimer = new Backoff(() => this.connect(), this.reconnectAfterMs)
    this.#followPage()
  }

  /** Connects, at once even if an attempt is due later; does nothing while there is a connection. */
  connect() {
    if (this.#wanted && this.conn) return
    this.#wanted = true
    if (this.longPollFallbackMs && this.transport !== LongPoll) this.#connectWithFallback()
    else this.#open()
  }

  /**
   * Closes the connection and stays disconnected.
   *
   * @param {() => void} [callback] called once the connection is closed
   * @param {number} [code]
   * @param {string} [reason]
   */
  disconnect(callback, code, reason) {
    this.#wanted = false
    this.#stopFallback()
    this.#reconnectTimer.reset()
    this.#close(code, reason, () => callback?.())
  }

  /**
   * Makes a channel for a topic. Nothing is sent before it is joined.
   *
   * @param {string} topic
   * @param {object | (() => object)} [params] the payload of the join
   * @returns {Channel}
   */
  channel(topic, params = {}) {
    const channel = new Channel(topic, params, this)
    this.channels.push(channel)
    return channel
  }

  /** Calls back each time the socket has connected. @returns {string} a ref for `off` */
  onOpen(callback) {
    return this.#listen("open", callback)
  }

  /** Calls back with the close event each time a connection has ended. @returns {string} a ref for `off` */
  onClose(callback) {
    return this.#listen("close", callback)
  }

  /** Calls back with each error of a connection. @returns {string} a ref for `off` */
  onError(callback) {
    return this.#listen("error", callback)
  }

  /** Calls back with each message received. @returns {string} a ref for `off` */
  onMessage(callback) {
    return this.#listen("message", callback)
  }

  /**
   * Removes callbacks.
   *
   * @param {string[]} refs what onOpen, onClose, onError and onMessage returned
   */
  off(refs) {
    for (const callbacks of Object.values(this.#callbacks)) refs.forEach(ref => callbacks.delete(ref))
  }

  /** @returns {"connecting" | "open" | "closing" | "closed"} */
  connectionState() {
    return STATES[this.conn?.readyState] ?? "closed"
  }

  isConnected() {
    return this.connectionState() === "open"
  }

  /** The URL that the transport is given. */
  endPointURL() {
    const url = `${this.endPoint}?${query({ ...this.params(), vsn: this.vsn })}`
    if (!url.startsWith("/")) return url
    const scheme = location.protocol === "https:" ? "wss:" : "ws:"
    return url.startsWith("//") ? scheme + url : `${scheme}//${location.host}${url}`
  }

  /**
   * Measures a round trip.
   *
   * @param {(milliseconds: number) => void} callback
   * @returns {boolean} false if the socket is not connected
   */
  ping(callback) {
    if (!this.isConnected()) return false
    const start = Date.now()
    const ref = this.makeRef()
    this.#pings.set(ref, () => callback(Date.now() - start))
    this.push({ topic: "phoenix", event: "heartbeat", payload: {}, ref })
    return true
  }

  /** The next message ref, a number as a string. */
  makeRef() {
    return String(++this.#ref)
  }

  /**
   * Sends a message, or keeps it until the socket has connected. One that belongs to a join which
   * has been given up by then is dropped.
   *
   * @param {Partial<Message>} message
   * @param {Channel} [channel] the channel it belongs to
   */
  push(message, channel) {
    this.log("push", `${message.topic} ${message.event}`, message)
    if (this.isConnected()) Serializer.encode(message, encoded => this.conn.send(encoded))
    else this.#sendBuffer.push({ message, channel })
  }

  /** Closes the connection and uses another transport from the next connect on. */
  replaceTransport(transport) {
    this.#stopFallback()
    this.#reconnectTimer.reset()
    this.#drop()
    this.transport = transport
  }

  log(kind, message, data) {
    this.logger?.(kind, message, data)
  }

  /** Forgets a channel. @internal */
  remove(channel) {
    this.channels = this.channels.filter(it => it !== channel)
  }

  /** Leaves the channel that is joined to a topic, if there is one. @internal */
  leaveOpenTopic(topic) {
    this.channels.find(it => it.topic === topic && (it.isJoined() || it.isJoining()))?.leave()
  }

  #listen(kind, callback) {
    const ref = this.makeRef()
    this.#callbacks[kind].set(ref, callback)
    return ref
  }

  #notify(kind, ...args) {
    for (const callback of [...this.#callbacks[kind].values()]) callback(...args)
  }

  #open() {
    this.#drop()
    this.#reconnectTimer.cancel()
    const protocols = this.authToken ? authProtocols(this.authToken()) : undefined
    const conn = new this.transport(this.endPointURL(), protocols)
    this.conn = conn
    conn.binaryType = this.binaryType
    conn.timeout = this.longpollerTimeout
    const whileCurrent = handle => event => {
      if (this.conn === conn) handle(event)
    }
    conn.onopen = whileCurrent(() => this.#opened())
    conn.onmessage = whileCurrent(event => this.#received(event.data))
    conn.onerror = whileCurrent(error => this.#failed(error))
    conn.onclose = whileCurrent(event => this.#closed(event))
  }

  #opened() {
    this.log("transport", `connected to ${this.endPoint}`)
    this.#connections += 1
    this.#reconnectTimer.reset()
    for (const { message, channel } of this.#sendBuffer.splice(0)) {
      const stale = channel && (channel.isClosed() || message.join_ref !== channel.joinRef())
      if (!stale) this.push(message, channel)
    }
    this.#startHeartbeat()
    this.channels.forEach(channel => channel.connected())
    this.#fallbackOpened()
    this.#notify("open")
  }

  #received(data) {
    const message = Serializer.decode(data)
    const { join_ref, ref, topic, event, payload } = message
    this.log("receive", `${topic} ${event}`, message)
    if (ref && ref === this.#heartbeat.ref) this.#startHeartbeat()
    for (const channel of [...this.channels]) {
      if (channel.isMember(topic, event, payload, join_ref)) channel.trigger(event, payload, ref, join_ref)
    }
    this.#notify("message", message)
    this.#pings.get(ref)?.()
    this.#pings.delete(ref)
  }

  #failed(error) {
    this.log("transport", "error", error)
    const { conn } = this
    this.channels.forEach(channel => channel.disconnected())
    this.#notify("error", error, this.transport, this.#connections)
    if (this.conn !== conn) return
    if (this.#fallback.watching) this.#useLongPoll(error)
    else this.#failChannels("connection_error")
  }

  #closed(event, reconnect = this.#wanted) {
    this.log("transport", "closed", event)
    this.#forget()
    this.#failChannels("connection_closed")
    if (reconnect && this.#wanted && !this.conn) this.#reconnectTimer.schedule()
    this.#notify("close", event)
  }

  /** Closes the connection properly, and gives it some time to answer. */
  #close(code, reason = "", callback) {
    const { conn } = this
    if (!conn) return callback()
    this.#stopHeartbeat()
    const finish = event => {
      clearTimeout(limit)
      if (this.conn === conn) this.#closed(event, false)
      callback()
    }
    const limit = setTimeout(() => finish({ code: 1006, reason, wasClean: false }), CLOSE_TIMEOUT)
    conn.onerror = null
    conn.onclose = finish
    if (code) conn.close(code, reason)
    else conn.close()
  }

  /** Gives up the connection, if there is one, without waiting for it to close. */
  #drop() {
    const { conn } = this
    if (!conn) return
    const opened = conn.readyState === 1 || conn.readyState === 2
    this.#forget()
    conn.close()
    if (opened) this.#failChannels("connection_closed")
  }

  #forget() {
    this.conn = null
    this.#stopHeartbeat()
    this.#pings.clear()
  }

  #failChannels(reason) {
    for (const channel of [...this.channels]) {
      if (channel.isJoined() || channel.isJoining()) channel.trigger("phx_error", { source: "transport", reason })
    }
  }

  #startHeartbeat() {
    this.#stopHeartbeat()
    if (this.conn.skipHeartbeat) return
    this.#heartbeat.timer = setTimeout(() => {
      this.#heartbeat.ref = this.makeRef()
      this.#heartbeat.timer = setTimeout(() => this.#heartbeatTimedOut(), this.heartbeatIntervalMs)
      this.push({ topic: "phoenix", event: "heartbeat", payload: {}, ref: this.#heartbeat.ref })
    }, this.heartbeatIntervalMs)
  }

  #stopHeartbeat() {
    clearTimeout(this.#heartbeat.timer)
    this.#heartbeat.ref = null
  }

  #heartbeatTimedOut() {
    this.log("transport", "no answer to a heartbeat")
    this.#close(1000, "heartbeat timeout", () => {
      if (this.#wanted && !this.conn) this.#reconnectTimer.schedule()
    })
    this.#failChannels("heartbeat_timeout")
  }

  /** Gives a WebSocket some time to open, and then to answer a ping, before LongPoll takes over. */
  #connectWithFallback() {
    if (this.#session()?.getItem(FALLBACK_KEY)) return this.#useLongPoll("it was needed before")
    this.#open()
    this.#fallback.watching = true
    this.#waitForPrimary()
  }

  #waitForPrimary() {
    clearTimeout(this.#fallback.timer)
    this.#fallback.timer = setTimeout(() => this.#useLongPoll("timeout"), this.longPollFallbackMs)
  }

  #fallbackOpened() {
    if (this.#fallback.watching) {
      this.#fallback.watching = false
      this.#waitForPrimary()
      this.ping(() => {
        this.#fallback.proven = true
        this.#stopFallback()
      })
    } else if (this.#fallback.used && !this.#fallback.proven) {
      this.#session()?.setItem(FALLBACK_KEY, "true")
    }
  }

  #useLongPoll(reason) {
    this.log("transport", "falling back to LongPoll", reason)
    this.#fallback.used = true
    this.replaceTransport(LongPoll)
    this.#open()
  }

  #stopFallback() {
    clearTimeout(this.#fallback.timer)
    this.#fallback.watching = false
  }

  #session() {
    try {
      return this.sessionStorage ?? globalThis.sessionStorage
    } catch {
      return undefined
    }
  }

  /** A page that is put away says goodbye; one that is looked at again connects at once. */
  #followPage() {
    if (typeof window === "undefined" || !window.addEventListener) return
    let putAway = false
    window.addEventListener("pagehide", () => {
      putAway = this.#wanted
      if (putAway) this.disconnect()
    })
    window.addEventListener("pageshow", () => {
      if (putAway && !this.#wanted) this.connect()
      putAway = false
    })
    window.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.#wanted && !this.conn) this.connect()
    })
  }
}

function asFunction(value) {
  return typeof value === "function" ? value : () => value
}

/** A query string, with nested objects as `a[b]=c`. */
function query(params, parent) {
  return Object.entries(params).flatMap(([name, value]) => {
    const key = parent ? `${parent}[${name}]` : name
    if (value === null || value === undefined) return []
    if (typeof value === "object") return query(value, key)
    return [`${encodeURIComponent(key)}=${encodeURIComponent(value)}`]
  }).filter(pair => pair !== "").join("&")
}
