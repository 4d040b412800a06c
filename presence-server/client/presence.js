/** @import { Channel } from "./channel.js" */

/**
 * One key's presence: what the server says about it, and a meta for each place it is present in.
 *
 * @typedef {{ metas: Array<{ phx_ref: string, [name: string]: any }>, [name: string]: any }} PresenceEntry
 * @typedef {Record<string, PresenceEntry>} PresenceState
 * @typedef {(key: string, current: PresenceEntry | undefined, joined: PresenceEntry) => void} OnJoin
 * @typedef {(key: string, current: PresenceEntry, left: PresenceEntry) => void} OnLeave
 */

/**
 * Keeps the list of who is present on a channel, from the state and the diffs that the server sends.
 *
 * Diffs that come before the state of the current join are kept and applied after it.
 */
export class Presence {
  /** Who is present, by key; without a prototype, so that any key is safe. @type {PresenceState} */
  state = Object.create(null)
  #channel
  #joinRef = null
  #pendingDiffs = []
  #onJoin = () => {}
  #onLeave = () => {}
  #onSync = () => {}

  /**
   * @param {Channel} channel
   * @param {{ events?: { state: string, diff: string } }} [options] the names of the two events
   */
  constructor(channel, { events = { state: "presence_state", diff: "presence_diff" } } = {}) {
    this.#channel = channel
    channel.on(events.state, state => {
      this.#joinRef = channel.joinRef()
      this.state = Presence.syncState(this.state, state, this.#onJoin, this.#onLeave)
      for (const diff of this.#pendingDiffs.splice(0)) this.#apply(diff)
      this.#onSync()
    })
    channel.on(events.diff, diff => {
      if (this.inPendingSyncState()) {
        this.#pendingDiffs.push(diff)
      } else {
        this.#apply(diff)
        this.#onSync()
      }
    })
  }

  /** Calls back for each key that came, or came to one more place. @param {OnJoin} callback */
  onJoin(callback) {
    this.#onJoin = callback
  }

  /** Calls back for each key that left a place; all places if `current` has no metas. @param {OnLeave} callback */
  onLeave(callback) {
    this.#onLeave = callback
  }

  /** Calls back after each change of the list. @param {() => void} callback */
  onSync(callback) {
    this.#onSync = callback
  }

  /**
   * Lists who is present.
   *
   * @param {(key: string, presence: PresenceEntry) => any} [by] makes an element; the presence without it
   * @returns {any[]}
   */
  list(by) {
    return Presence.list(this.state, by)
  }

  /** Whether the state of the current join has yet to come. */
  inPendingSyncState() {
    return this.#joinRef === null || this.#joinRef !== this.#channel.joinRef()
  }

  #apply(diff) {
    this.state = Presence.syncDiff(this.state, diff, this.#onJoin, this.#onLeave)
  }

  /**
   * Brings a list to the state that the server sent, and reports what is new in it and what is gone.
   *
   * @param {PresenceState} current stays as it is
   * @param {PresenceState} next
   * @param {OnJoin} [onJoin]
   * @param {OnLeave} [onLeave]
   * @returns {PresenceState} the new list
   */
  static syncState(current, next, onJoin, onLeave) {
    const from = bare(current)
    const to = bare(next)
    const joins = difference(to, from)
    const leaves = difference(from, to)
    const state = bare({})
    for (const key of Object.keys(from)) state[key] = copy(from[key])
    return Presence.syncDiff(state, { joins, leaves }, onJoin, onLeave)
  }

  /**
   * Applies a diff to a list and reports each key that joined or left.
   *
   * @param {PresenceState} state is changed in place if it has no prototype
   * @param {{ joins?: PresenceState, leaves?: PresenceState }} diff
   * @param {OnJoin} [onJoin]
   * @param {OnLeave} [onLeave]
   * @returns {PresenceState} the new list
   */
  static syncDiff(state, { joins = {}, leaves = {} }, onJoin = () => {}, onLeave = () => {}) {
    state = bare(state)
    for (const [key, joined] of Object.entries(joins)) {
      const current = state[key]
      state[key] = copy(joined)
      if (current) state[key].metas.unshift(...without(current.metas, joined.metas))
      onJoin(key, current, copy(joined))
    }
    for (const [key, left] of Object.entries(leaves)) {
      const current = state[key]
      if (!current) continue
      current.metas = without(current.metas, left.metas)
      onLeave(key, current, copy(left))
      if (current.metas.length === 0) delete state[key]
    }
    return state
  }

  /**
   * Lists the presences of a state.
   *
   * @param {PresenceState} state
   * @param {(key: string, presence: PresenceEntry) => any} [by]
   * @returns {any[]}
   */
  static list(state, by = (key, presence) => presence) {
    return Object.entries(state).map(([key, presence]) => by(key, presence))
  }
}

/** The same object without a prototype, whose names (`constructor`, `__proto__`) could be keys too. */
function bare(object) {
  if (Object.getPrototypeOf(object) === null) return object
  const bare = Object.create(null)
  for (const key of Object.keys(object)) bare[key] = object[key]
  return bare
}

/** A presence whose list of metas can be changed. */
function copy(presence) {
  return { ...presence, metas: [...presence.metas] }
}

/** The metas whose refs are not among the others. */
function without(metas, others) {
  const refs = new Set(others.map(meta => meta.phx_ref))
  return metas.filter(meta => !refs.has(meta.phx_ref))
}

/** What of one state is not in the other, as a diff lists it. */
function difference(state, other) {
  const difference = Object.create(null)
  for (const key of Object.keys(state)) {
    const metas = other[key] ? without(state[key].metas, other[key].metas) : state[key].metas
    if (!other[key] || metas.length > 0) difference[key] = { ...state[key], metas }
  }
  return difference
}
