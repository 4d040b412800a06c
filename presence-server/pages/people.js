/** The list of who is online. */

const calm = matchMedia("(prefers-reduced-motion: reduce)")
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" })

/** The names of this page's statuses; a presence that never set one is available. */
export const STATUSES = ["available", "away", "busy"]

const statusOf = meta => (typeof meta.status === "string" ? meta.status : "available")

/** Hues that look clear behind white letters. */
const HUES = [10, 32, 145, 172, 198, 225, 250, 275, 300, 330, 352]

/** The same colour for the same name, on every page. */
function hue(name) {
  let hash = 2166136261
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 16777619)
  return HUES[((hash ^ (hash >>> 13)) >>> 0) % HUES.length]
}

function initials(name) {
  const words = name.split(/[\s._-]+/u).filter(Boolean)
  const first = words.length > 1 ? [words[0], words.at(-1)] : words
  return first.map(word => [...word][0].toLocaleUpperCase()).join("") || "?"
}

/** How long ago, in the largest unit that fits. */
function ago(seconds) {
  if (seconds < 60) return "just now"
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} d`
}

function element(tag, className, ...children) {
  const made = document.createElement(tag)
  if (className) made.className = className
  made.append(...children)
  return made
}

/** Shows presences as rows of a list, which slide in and out as people come and go. */
export class People {
  #list
  #rows = new Map()

  /** @param {HTMLUListElement} list */
  constructor(list) {
    this.#list = list
    setInterval(() => this.#rows.forEach(row => row.showSince()), 15_000)
  }

  /**
   * @param {Array<{ name: string, metas: object[] }>} people
   * @param {string} self whose row comes first
   * @param {boolean} [slide] whether changes may be animated
   */
  show(people, self, slide = true) {
    const motion = slide && !calm.matches
    const sorted = [...people].sort((a, b) => (b.name === self) - (a.name === self) || a.name.localeCompare(b.name))
    const names = new Set(sorted.map(({ name }) => name))
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue
      this.#rows.delete(name)
      row.leave(motion)
    }
    let previous = null
    for (const { name, metas } of sorted) {
      let row = this.#rows.get(name)
      if (!row) this.#rows.set(name, (row = new Row(name)))
      const isNew = !row.item.isConnected
      row.update(metas, name === self, motion && !isNew)
      const place = previous ? previous.nextSibling : this.#list.firstChild
      if (place !== row.item) this.#list.insertBefore(row.item, place)
      if (isNew && motion) row.enter()
      previous = row.item
    }
  }
}

class Row {
  #since = element("time")
  #sinceLine = element("p", "since")
  #count = element("span", "count")
  #you = element("span", "you", "you")
  #devices = element("ul", "devices")

  constructor(name) {
    const avatar = element("span", "avatar", initials(name))
    avatar.style.setProperty("--hue", hue(name))
    avatar.setAttribute("aria-hidden", "true")
    const title = element("p", "name", element("b", "", name), " ", this.#count, this.#you)
    this.#sinceLine.append("online since ", this.#since)
    this.#devices.setAttribute("aria-label", "Devices")
    this.item = element("li", "person", element("div", "person-row", avatar, element("div", "who", title, this.#sinceLine), this.#devices))
    this.item.dataset.name = name
  }

  update(metas, isSelf, motion) {
    const count = `(count: ${metas.length})`
    if (this.#count.textContent !== count) {
      this.#count.textContent = count
      if (motion) this.#count.animate([{ background: "var(--glow)" }, {}], { duration: 1200, easing: "ease-out" })
    }
    this.#you.hidden = !isSelf
    this.#devices.replaceChildren(...metas.map(meta => {
      const device = element("li", "device", statusOf(meta))
      device.dataset.status = statusOf(meta)
      return device
    }))
    const times = metas.map(meta => Number(meta.online_at)).filter(Number.isFinite)
    this.#sinceLine.hidden = times.length === 0
    if (times.length > 0) this.online = Math.min(...times)
    this.showSince()
  }

  showSince() {
    if (this.online === undefined) return
    const date = new Date(this.online * 1000)
    this.#since.dateTime = date.toISOString()
    this.#since.textContent = `${clock.format(date)} · ${ago(Date.now() / 1000 - this.online)}`
  }

  enter() {
    const height = `${this.item.offsetHeight}px`
    this.item.animate([{ height: 0, opacity: 0 }, { height, opacity: 1 }], { duration: 260, easing: "ease-out" })
  }

  leave(motion) {
    if (!motion) return this.item.remove()
    this.item.setAttribute("aria-hidden", "true")
    const height = `${this.item.offsetHeight}px`
    const frames = [{ height, opacity: 1 }, { height: 0, opacity: 0 }]
    this.item.animate(frames, { duration: 220, easing: "ease-in" }).finished.finally(() => this.item.remove())
  }
}
