const CONNECTING = 0
const OPEN = 1
const CLOSED = 3
const MAX_BATCH = 100
const TOKEN_PROTOCOL = "base64url.bearer.phx."
const BINARY_PREFIX = "data:application/octet-stream;base64,"

/**
 * Names the sub-protocols that carry an auth token over a WebSocket.
 *
 * @param {string} token
 * @returns {string[]}
 */
export function authProtocols(token) {
  const base64url = btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
  return ["phoenix", TOKEN_PROTOCOL + base64url]
}

/**
 * A stand-in for WebSocket over plain HTTP: it polls for what the server sends, and posts what the
 * client sends, one message a line. It has what `Socket` uses of a WebSocket, and no more.
 */
export class LongPoll {
  readyState = CONNECTING
  /** Tells the socket that each poll is a sign of life already. */
  skipHeartbeat = true
  /** Milliseconds before a request that is not answered counts as failed. */
  timeout = 20_000
  onopen = null
  onmessage = null
  onerror = null
  onclose = null
  #url
  #headers = {}
  #token = null
  #outgoing = []
  #sending = false
  #requests = new Set()

  /**
   * @param {string} endPoint the URL of the WebSocket, `…/websocket`
   * @param {string[]} [protocols] may carry an auth token, which goes into a header here
   */
  constructor(endPoint, protocols = []) {
    this.#url = endPoint.replace(/^ws/, "http").replace(/\/websocket(?=\?|$)/, "/longpoll")
    const carrier = protocols.find(protocol => protocol.startsWith(TOKEN_PROTOCOL))
    if (carrier) {
      const base64url = carrier.slice(TOKEN_PROTOCOL.length)
      this.#headers["x-phoenix-authtoken"] = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"))
    }
    setTimeout(() => this.#poll(), 0)
  }

  /**
   * Sends a message, together with all that is sent before the next request starts.
   *
   * @param {string | ArrayBuffer} message
   */
  send(message) {
    this.#outgoing.push(typeof message === "string" ? message : base64(message))
    if (this.#sending) return
    this.#sending = true
    setTimeout(() => this.#post(), 0)
  }

  /**
   * Closes the connection. The server notices when no poll comes any more.
   *
   * @param {number} [code]
   * @param {string} [reason]
   */
  close(code = 1005, reason = "") {
    if (this.#closed) return
    this.#stop()
    this.onclose?.({ code, reason, wasClean: true })
  }

  get #closed() {
    return this.readyState === CLOSED
  }

  async #poll() {
    while (!this.#closed) {
      const { status, token, messages } = await this.#request("GET")
      if (this.#closed) return
      if (status === 410 && this.#token !== null) return this.#fail(410, 3410, "session_gone")
      this.#token = token ?? this.#token
      switch (status) {
        case 200:
          messages.forEach(message => this.#deliver(message))
          break
        case 204:
          break
        case 410:
          this.readyState = OPEN
          this.onopen?.({})
          break
        case 403:
          return this.#fail(403, 1008, "forbidden")
        default:
          return this.#failed(status)
      }
    }
  }

  async #post() {
    while (this.#outgoing.length > 0 && !this.#closed) {
      const { status } = await this.#request("POST", this.#outgoing.splice(0, MAX_BATCH).join("\n"))
      if (this.#closed) return
      if (status !== 200) return this.#failed(status)
    }
    this.#sending = false
  }

  /** Hands over each message in a task of its own, as a WebSocket does. */
  #deliver(message) {
    const data = message.startsWith(BINARY_PREFIX) ? bytes(message.slice(BINARY_PREFIX.length)) : message
    setTimeout(() => {
      if (!this.#closed) this.onmessage?.({ data })
    }, 0)
  }

  /** Makes a request; the status is "timeout" or 500 where the server gave none. */
  async #request(method, body) {
    const url = new URL(this.#url)
    if (this.#token !== null) url.searchParams.set("token", this.#token)
    const headers = { accept: "application/json", ...this.#headers }
    if (body !== undefined) headers["content-type"] = "application/x-ndjson"
    const request = new AbortController()
    const timer = setTimeout(() => request.abort("timeout"), this.timeout)
    this.#requests.add(request)
    try {
      const response = await fetch(url, { method, headers, body, cache: "no-store", signal: request.signal })
      return await response.json()
    } catch {
      return { status: request.signal.reason === "timeout" ? "timeout" : 500 }
    } finally {
      clearTimeout(timer)
      this.#requests.delete(request)
    }
  }

  #failed(status) {
    if (status === "timeout") this.#fail("timeout", 1005, "timeout")
    else this.#fail(status, 1011, "internal server error")
  }

  #fail(error, code, reason) {
    this.#stop()
    this.onerror?.(error)
    this.onclose?.({ code, reason, wasClean: false })
  }

  #stop() {
    this.readyState = CLOSED
    this.#outgoing = []
    for (const request of this.#requests) request.abort()
  }
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), char => char.charCodeAt(0)).buffer
}

function base64(buffer) {
  let bytes = ""
  for (const byte of new Uint8Array(buffer)) bytes += String.fromCharCode(byte)
  return btoa(bytes)
}
