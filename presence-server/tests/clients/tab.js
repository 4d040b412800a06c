/** One client in the guide's room. Runs under Node and in a page, with phoenix.js or the project's client. */

/** Attempts to connect and to join again come quickly, so that a test takes seconds. */
export const QUICK = { reconnectAfterMs: () => 50, rejoinAfterMs: () => 50 }

/** Version 1.0.0 of the wire format, for phoenix.js, which brings only 2.0.0 itself. */
export const VERSION_1 = {
  vsn: "1.0.0",
  encode: (message, callback) => callback(JSON.stringify(message)),
  decode: (text, callback) => callback(JSON.parse(text)),
}

export class Tab {
  /** Every list that was shown, in order. */
  lists = []
  /** How often it has joined. */
  joins = 0
  /** What onJoin and onLeave were called with. */
  changes = []
  #socket
  #channel
  #presence

  /**
   * @param {{ Socket: any, Presence: any }} client
   * @param {string} url of the socket
   * @param {string} name
   * @param {object} [options] of the socket
   */
  constructor({ Socket, Presence }, url, name, options = {}) {
    this.#socket = new Socket(url, { ...QUICK, ...options })
    this.#channel = this.#socket.channel("room:lobby", { name })
    this.#presence = new Presence(this.#channel)
    const record = kind => (key, current, { metas }) => {
      this.changes.push({ kind, key, before: (current?.metas ?? []).map(meta => meta.phx_ref), metas })
    }
    this.#presence.onJoin(record("join"))
    this.#presence.onLeave(record("leave"))
    this.#presence.onSync(() => this.lists.push(this.list()))
    this.#socket.connect()
    this.#channel.join().receive("ok", () => (this.joins += 1))
  }

  /** Who is there, as the guide shows it. */
  list() {
    return this.#presence.list((id, { metas }) => `${id} (count: ${metas.length})`).sort()
  }

  /** The metas of a key. */
  metas(key) {
    return this.#presence.state[key]?.metas ?? []
  }

  /** The refs of all that are there. */
  refs() {
    return Object.values(this.#presence.state).flatMap(({ metas }) => metas.map(meta => meta.phx_ref)).sort()
  }

  /** Sets the status, and resolves with the status of the reply. */
  setStatus(status) {
    const push = this.#channel.push("status", { status })
    return new Promise(resolve => ["ok", "error", "timeout"].forEach(it => push.receive(it, () => resolve(it))))
  }

  close() {
    return new Promise(resolve => this.#socket.disconnect(resolve))
  }
}
