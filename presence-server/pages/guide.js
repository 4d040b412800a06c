import { LongPoll, Presence, RECONNECT_DELAYS, Socket, stepped } from "/client/index.js"
import { Activity, Changes } from "./activity.js"
import * as identity from "./identity.js"
import { People, STATUSES } from "./people.js"

const $ = id => document.getElementById(id)
const people = new People($("people"))
const activity = new Activity($("activity"))

const REFUSALS = {
  missing: "Please sign in first: the server does not let anyone in without a token.",
  invalid: "Your token was refused: it is forged or was signed with another key. Please sign in again.",
  expired: "Your token has expired. Please sign in again.",
}

/** Shows a problem, or none. */
function notice(text = "") {
  $("notice").textContent = text
  $("notice").hidden = text === ""
}

/** Shows the state of the connection: idle, connecting, live, gone or refused. */
function connection(state, text) {
  $("connection").dataset.state = state
  if ($("connection-text").textContent !== text) $("connection-text").textContent = text
  $("try-now").hidden = true
  $("countdown").textContent = ""
  $("transport").textContent = ""
  $("room").toggleAttribute("data-stale", state === "gone" || state === "refused")
}

/** Asks for a name. */
function welcome(text, suggestion) {
  connection("idle", "")
  $("room").hidden = true
  $("welcome").hidden = false
  if (text) $("welcome-text").textContent = text
  $("name-input").value = suggestion
  $("name-input").focus()
  $("name-input").select()
  return new Promise(resolve => {
    $("name-form").onsubmit = event => {
      event.preventDefault()
      const name = $("name-input").value.trim()
      if (name) resolve(name)
    }
  })
}

/** Signs in, asking until the server agrees. */
async function askForToken(suggestion) {
  for (;;) {
    const name = await welcome("The server signs a token for it, and everyone in the lobby will see it.", suggestion)
    try {
      const signedIn = await identity.signIn(name)
      history.replaceState(null, "", identity.addressFor(name))
      notice()
      return signedIn
    } catch (error) {
      notice(`Signing in failed: ${error.message}.`)
      suggestion = name
    }
  }
}

/** Joins the lobby as somebody, until the token is refused. Resolves with the reason then. */
function enter({ name, token }, { auth, longpoll_fallback_ms }) {
  $("welcome").hidden = true
  $("room").hidden = false
  let retryAt = 0
  let retryDelay = 0
  let everLive = false

  const socket = new Socket("/socket", {
    params: auth ? { token } : {},
    transport: identity.transportInAddress === "longpoll" ? LongPoll : undefined,
    longPollFallbackMs: longpoll_fallback_ms ?? undefined,
    reconnectAfterMs: tries => {
      retryDelay = stepped(RECONNECT_DELAYS)(tries)
      retryAt = Date.now() + retryDelay
      return retryDelay
    },
  })
  const channel = socket.channel("room:lobby", auth ? {} : { name })
  const presence = new Presence(channel)
  const changes = new Changes()

  function showSelf() {
    $("you").textContent = name ? `You are ${name}` : "You"
    $("same-tab").textContent = `Open another tab as ${name || "you"}`
    $("same-tab").href = identity.addressFor(name ?? "")
  }

  function render() {
    const list = presence.list((key, { metas }) => ({ name: key, metas }))
    const devices = list.reduce((sum, { metas }) => sum + metas.length, 0)
    people.show(list, name, document.visibilityState === "visible")
    $("summary").textContent = list.length === 1 ? "1 person is here" : `${list.length} people are here`
    $("devices").textContent = `on ${devices} ${devices === 1 ? "device" : "devices"}, in room:lobby`
    const fresh = identity.freshName([name, ...list.map(person => person.name)])
    $("other-tab").textContent = `Open a tab as ${fresh}`
    $("other-tab").href = identity.addressFor(fresh)
    document.title = `(${list.length}) ${name ?? "Lobby"}`
  }

  let synced = false
  presence.onJoin((...change) => changes.joined(...change))
  presence.onLeave((...change) => changes.left(...change))
  presence.onSync(() => {
    if (synced) changes.take().forEach(sentence => activity.add(sentence))
    else activity.add(`You joined as ${name ?? "yourself"}`)
    changes.clear()
    synced = true
    render()
  })

  const chosen = () => document.querySelector("input[name=status]:checked").value
  function sendStatus(status) {
    const failed = why => notice(`Your status could not be set: ${why}.`)
    channel.push("status", { status })
      .receive("ok", () => notice())
      .receive("error", ({ reason }) => failed(reason ?? "the room refused it"))
      .receive("timeout", () => failed("no answer"))
  }
  $("status").onchange = () => sendStatus(chosen())

  channel.join()
    .receive("ok", () => {
      notice()
      connection("live", "Live")
      $("status").disabled = false
      $("transport").textContent = `Connected over ${socket.transport === LongPoll ? "long polling" : "WebSocket"}.`
      if (everLive) activity.add("You are back")
      everLive = true
      if (chosen() !== STATUSES[0]) sendStatus(chosen())
    })
    .receive("error", ({ reason }) => {
      connection("refused", "Not joined")
      if (!synced) $("summary").textContent = "You are not in the room"
      notice(`The room refused you: ${reason ?? "no reason given"}. The page keeps asking.`)
    })
    .receive("timeout", () => {
      connection("connecting", "Joining…")
      notice("The room has not answered yet. The page keeps asking.")
    })
  channel.onError(reason => {
    $("status").disabled = true
    if (reason?.source === "transport") return
    connection("connecting", "Joining again…")
    notice("The room crashed on the server. Joining it again.")
  })
  channel.onClose(() => {
    if (!left) connection("refused", "The room was closed")
  })

  let left = false
  let gone = false
  socket.onOpen(() => {
    gone = false
    connection("connecting", "Joining…")
    if (name === undefined) {
      identity.checkToken(token).then(answer => {
        name = answer?.name
        showSelf()
        if (synced) render()
      })
    }
  })

  showSelf()
  $("status").disabled = true
  connection("connecting", "Connecting…")
  $("try-now").onclick = () => socket.connect()

  const ticking = setInterval(() => {
    if (!gone) return
    const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000))
    const waiting = retryDelay >= 1000 && socket.connectionState() === "closed"
    $("countdown").textContent = waiting ? `in ${seconds} s` : "…"
    $("try-now").hidden = !waiting
  }, 250)

  return new Promise(resolve => {
    function leave(reason) {
      left = true
      clearInterval(ticking)
      socket.disconnect()
      people.show([], name, false)
      resolve({ reason, name })
    }

    let checking = false
    socket.onClose(async () => {
      if (left) return
      if (!gone) {
        gone = true
        connection("gone", "Reconnecting")
        if (everLive) activity.add("The connection was lost")
      }
      if (!auth) return notice("The server cannot be reached. The list may be out of date; it comes back by itself.")
      if (checking) return
      checking = true
      const verdict = await identity.checkToken(token)
      checking = false
      if (left || socket.isConnected()) return
      if (verdict?.ok === false) leave(verdict.reason)
      else if (gone) notice("The server cannot be reached. The list may be out of date; it comes back by itself.")
    })
    $("sign-out").onclick = () => leave("signed out")
    socket.connect()
  })
}

async function main() {
  const config = await identity.loadConfig()
  let somebody = config.auth ? identity.storedIdentity() : identity.nameInAddress && { name: identity.nameInAddress }
  let suggestion = identity.nameInAddress
  for (;;) {
    if (!somebody) {
      if (config.auth) {
        somebody = await askForToken(suggestion)
      } else {
        somebody = { name: await welcome(null, suggestion || identity.freshName([])) }
        history.replaceState(null, "", identity.addressFor(somebody.name))
      }
    }
    const { reason, name } = await enter(somebody, config)
    if (config.auth) identity.forget(somebody.token)
    notice(REFUSALS[reason] ?? (reason === "signed out" ? "" : `The server refused you: ${reason}.`))
    suggestion = name ?? suggestion
    somebody = null
  }
}

main()
