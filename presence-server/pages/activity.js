/** What happened, in words. */

const MOST = 60
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" })

/** A log, the latest entry first. */
export class Activity {
  #list

  /** @param {HTMLOListElement} list */
  constructor(list) {
    this.#list = list
  }

  /** @param {string} sentence */
  add(sentence) {
    const time = document.createElement("time")
    time.dateTime = new Date().toISOString()
    time.textContent = clock.format(new Date())
    const text = document.createElement("span")
    text.textContent = sentence
    const item = document.createElement("li")
    item.append(text, time)
    this.#list.prepend(item)
    while (this.#list.childElementCount > MOST) this.#list.lastElementChild.remove()
  }
}

/**
 * Collects what a presence reports between two syncs, and tells it in sentences.
 *
 * A changed meta arrives as a join and a leave at once, which `phx_ref_prev` ties together: that is
 * neither a tab that opened nor one that closed. After a reconnect everybody has another ref, so
 * joins and leaves of one key cancel each other out as well.
 */
export class Changes {
  #byKey = new Map()

  #of(key) {
    if (!this.#byKey.has(key)) this.#byKey.set(key, { joined: [], left: [], before: undefined, after: 0 })
    return this.#byKey.get(key)
  }

  joined(key, current, presence) {
    const change = this.#of(key)
    change.before ??= current?.metas.length ?? 0
    change.after = (current?.metas.length ?? 0) + presence.metas.length
    change.joined.push(...presence.metas)
  }

  left(key, current, presence) {
    const change = this.#of(key)
    change.before ??= current.metas.length + presence.metas.length
    change.after = current.metas.length
    change.left.push(...presence.metas)
  }

  /** Forgets what was collected. */
  clear() {
    this.#byKey.clear()
  }

  /** The sentences for what was collected, which is then forgotten. */
  take() {
    const sentences = []
    for (const [name, { joined, left, before, after }] of this.#byKey) {
      if (before === 0 && after > 0) sentences.push(after > 1 ? `${name} joined in ${after} tabs` : `${name} joined`)
      else if (after === 0 && before > 0) sentences.push(`${name} left`)
      else if (after > before) sentences.push(`${name} opened ${tabs(after - before)}`)
      else if (after < before) sentences.push(`${name} closed ${after < before - 1 ? `${before - after} tabs` : "a tab"}`)
      for (const meta of joined) {
        const old = left.find(it => it.phx_ref === meta.phx_ref_prev)
        if (old && old.status !== meta.status) sentences.push(`${name} is ${meta.status ?? "available"}`)
      }
    }
    this.clear()
    return sentences
  }
}

const tabs = count => (count === 1 ? "another tab" : `${count} more tabs`)
