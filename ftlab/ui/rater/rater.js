// The rater's page. Every press becomes one message to the server, which answers with the next screen.
// `spoken` comes from texts.py: the names of the languages, and what this script itself says in each.
const stage = element.querySelector('.rt-stage');
const live = element.querySelector('.rt-live');
const store = {
  get: name => { try { return localStorage.getItem(name); } catch (error) { return null; } },
  set: (name, value) => { try { localStorage.setItem(name, value); return true; } catch (error) { return false; } },
  drop: name => { try { localStorage.removeItem(name); } catch (error) { /* there is none */ } },
};
// The link's secret stands behind the #, so it is in no request line, no log of a proxy and no referrer.
const asked = new URLSearchParams(location.hash.slice(1)).get('key') || '';
let key = store.get('ftlab-rater-' + asked) || asked;
let busy = false, before = 0, since = 0, draft = {};

// Another link opened in this page changes only what stands behind the #: it is another test, or another person.
addEventListener('hashchange', () => location.reload());

const tags = Object.keys(spoken.names);
const base = tag => tag.toLowerCase().split('-')[0];
const known = wish => tags.find(tag => base(tag) === base(wish || ''));
let language = known(store.get('ftlab-rater-language')) || (navigator.languages || []).map(known).find(Boolean) || tags[0];
const say = text => spoken.texts[language]?.[text] || text;

// A panel names its people in the address: ?PROLIFIC_PID=..., or whatever parameter it can set.
const named = ['PROLIFIC_PID', 'participant', 'workerId', 'name']
  .map(name => new URLSearchParams(location.search).get(name)).find(value => value) || '';

// Raters who come by a link with ?group=... have a result of their own.
const group = new URLSearchParams(location.search).get('group') || '';

const now = () => performance.now();
const spent = () => Math.round(before + (document.hidden ? 0 : now() - since)) / 1000;
document.addEventListener('visibilitychange', () => {
  if (document.hidden) before += now() - since; else since = now();
});

const keep = () => {
  const comment = stage.querySelector('#rt-comment');
  if (!comment) return;
  const ratings = {};
  stage.querySelectorAll('[data-aspect]:checked').forEach(one => { ratings[one.dataset.aspect] = one.value; });
  draft = {trial: trial(), comment: comment.value, ratings};
  try { sessionStorage.setItem('ftlab-draft', JSON.stringify(draft)); } catch (error) { /* not kept */ }
};
const fill = saved => {
  const comment = stage.querySelector('#rt-comment');
  if (!saved || !comment) return;
  comment.value = saved.comment || '';
  for (const [aspect, value] of Object.entries(saved.ratings || {}))
    stage.querySelectorAll('[data-aspect]').forEach(one => {
      if (one.dataset.aspect === aspect && one.value === value) one.checked = true;
    });
  if (comment.value) comment.closest('details').open = true;
};
const trial = () => stage.querySelector('[data-trial]')?.dataset.trial || '';

let waiting = 0;
const show = (reply, focus) => {
  stage.innerHTML = reply.screen;
  const name = stage.querySelector('#rt-name');
  if (name && !name.value) name.value = named.slice(0, name.maxLength);
  stage.classList.toggle('rt-as-written', store.get('ftlab-as-written') === '1');
  before = 0;
  since = now();
  // The button that was pressed and the next one lie at the same place: a second tap must not vote.
  setTimeout(() => stage.querySelectorAll('button[disabled]').forEach(one => { one.disabled = false; }), 400);
  if (live.textContent !== (reply.say || '')) live.textContent = reply.say || '';
  // Voting has not begun: the page looks again by itself.
  clearTimeout(waiting);
  const again = stage.querySelector('[data-again]');
  if (again) waiting = setTimeout(() => ask({do: 'open'}, false), 1000 * again.dataset.again);
  if (focus) {
    window.scrollTo(0, 0);
    stage.querySelector('[data-focus]')?.focus({preventScroll: true});
  }
};

// A vote is kept by the browser until the server has answered it, under an id by which the server knows it again. One
// for each link: the next comparison is handed out with the answer, not before.
const shelf = () => 'ftlab-vote-' + key;
const waitingVote = () => { try { return JSON.parse(store.get(shelf())); } catch (error) { return null; } };
const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), part => part.toString(36)).join('');

const number = config => config?.components.find(one => one.props.elem_id === 'rater')?.id;
const late = seconds => new Promise(done => setTimeout(done, 1000 * seconds));
let unsent = null, retry = 0, pause = 0;
const again = async () => {
  if (!unsent || busy) return;
  clearTimeout(retry);
  // Served anew, the page's one endpoint may have another number: then the page loads itself again.
  const config = await Promise.race([fetch('config').then(reply => reply.json()).catch(() => null), late(10)]);
  if (config && number(config) !== number(window.gradio_config)) location.reload();
  else if (unsent) ask(unsent);
};
const lost = message => {
  unsent = message;
  pause = Math.min(30, 2 * pause || 2);
  retry = setTimeout(byItself, 1000 * pause);
  const old = stage.querySelector('.rt-lost');
  if (old?.lang === language) return;
  old?.remove();
  const box = document.createElement('p');
  box.lang = language;
  box.className = 'rt-problem rt-lost';
  box.setAttribute('role', 'alert');
  box.textContent = (message.do !== 'vote'
    ? say('No connection, so this was not sent. Votes that were saved are safe.')
    : waitingVote()
      ? say('No connection. Your vote is kept on this device and is sent when the connection is back.')
      : say('No connection. Keep this page open: your vote is sent when the connection is back.')) + ' ';
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'rt-quiet';
  button.textContent = say('Try again');
  button.onclick = again;
  box.append(button);
  if (message.do === 'vote') stage.querySelectorAll('[data-do]').forEach(one => {
    one.disabled = true;
    if (one.dataset.do === 'vote') one.setAttribute('aria-pressed', one.dataset.choice === message.choice);
  });
  (stage.querySelector('.rt-bar') || stage).prepend(box);
  button.focus();
};
// Sent again without being asked: only what the server takes once, however often it arrives.
const safe = message => message?.do === 'vote' || message?.do === 'open';
const byItself = () => { if (safe(unsent) && !document.hidden) again(); };
window.addEventListener('online', byItself);
document.addEventListener('visibilitychange', byItself);
const send = message => {
  const reply = server.rate({...message, key, language});
  // A phone that has lost its network may wait for minutes.
  return safe(message) ? Promise.race([reply, late(20)]) : reply;
};
const ask = async (message, focus = true) => {
  if (busy) return;
  busy = true;
  stage.setAttribute('aria-busy', 'true');
  const reply = await send(message).catch(() => null);
  busy = false;
  stage.removeAttribute('aria-busy');
  if (!reply || typeof reply.screen !== 'string') return lost(message);
  unsent = null;
  pause = 0;
  if (message.do === 'vote') store.drop(shelf());
  if (reply.key) {
    key = reply.key;
    store.set('ftlab-rater-' + asked, key);
    describe();
  }
  show(reply, focus);
  fill(reply.written);
  if (message.do === 'open') {
    try { draft = JSON.parse(sessionStorage.getItem('ftlab-draft') || '{}'); } catch (error) { draft = {}; }
    if (draft.trial && draft.trial === trial()) fill(draft);
  }
};

element.addEventListener('click', event => {
  const pressed = event.target.closest('[data-do]');
  if (!pressed || pressed.disabled) return;
  keep();
  const what = pressed.dataset.do;
  if (what === 'vote') {
    if (busy) return;
    const vote = {do: what, id: newId(), trial: trial(),
      choice: pressed.dataset.choice, ratings: draft.ratings, comment: draft.comment, seconds: spent()};
    store.set(shelf(), JSON.stringify(vote));
    ask(vote);
  } else if (what === 'guess') ask({do: what, trial: trial(), choice: pressed.dataset.choice});
  else if (what === 'undo') ask({do: what, trial: pressed.dataset.last});
  else ask({do: what});
});
element.addEventListener('submit', event => {
  event.preventDefault();
  const written = Object.fromEntries(new FormData(event.target));
  ask({do: event.target.dataset.form, group, ...written});
});
element.addEventListener('input', keep);

// What a home screen needs: the name in the rater's language, and the address of this rater, which is also right after
// joining by an open link. A file on the server could know neither.
const describe = () => {
  const here = location.origin + location.pathname, dark = document.body.classList.contains('dark');
  const colour = dark ? '#020617' : '#f8fafc';
  const manifest = {name: say('Compare answers'), lang: language, start_url: `${here}${location.search}#key=${key}`, scope: here,
    display: 'standalone', theme_color: colour, background_color: colour,
    icons: [{src: new URL('icon.png', document.baseURI).href, sizes: '512x512', type: 'image/png', purpose: 'any maskable'}]};
  document.querySelector('link[rel=manifest]')?.setAttribute(
    'href', 'data:application/manifest+json,' + encodeURIComponent(JSON.stringify(manifest)));
};

// The choices of the reader, kept by this browser.
const speech = element.querySelector('#rt-language');
for (const [tag, name] of Object.entries(spoken.names)) {
  const option = new Option(name, tag);
  option.lang = tag;
  speech.add(option);
}
const speak = () => {
  document.documentElement.lang = speech.value = language;
  document.title = say('Compare answers');
  speech.setAttribute('aria-label', say('Language'));
  element.querySelectorAll('[data-text]').forEach(one => {
    one.dataset.text ||= one.textContent;
    one.textContent = say(one.dataset.text);
  });
  describe();
};
speech.addEventListener('change', async () => {
  language = speech.value;
  store.set('ftlab-rater-language', language);
  speak();
  const typed = stage.querySelector('#rt-name, #rt-question')?.value;
  keep();
  await ask(unsent || {do: 'open'}, false);
  const field = stage.querySelector('#rt-name, #rt-question');
  if (typed && field) field.value = typed;
});
const keys = element.querySelector('#rt-keys'), written = element.querySelector('#rt-written');
keys.checked = store.get('ftlab-rater-keys') !== '0';
written.checked = store.get('ftlab-as-written') === '1';
const showKeys = () => element.classList.toggle('rt-keys-on', keys.checked);
keys.addEventListener('change', () => {
  store.set('ftlab-rater-keys', keys.checked ? '1' : '0');
  showKeys();
});
element.querySelector('#rt-theme').addEventListener('click', () => {
  const dark = !document.body.classList.contains('dark');
  store.set('ftlab-theme', dark ? 'dark' : 'light');
  document.body.classList.toggle('dark', dark);
});
written.addEventListener('change', () => {
  store.set('ftlab-as-written', written.checked ? '1' : '0');
  stage.classList.toggle('rt-as-written', written.checked);
});
showKeys();

document.addEventListener('keydown', event => {
  if (!keys.checked || event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const focus = document.activeElement;
  if (focus && focus.closest('textarea, select, input:not([type=radio]):not([type=checkbox])')) {
    if (event.key === 'Escape') focus.blur();
    return;
  }
  const arrow = {ArrowLeft: '1', ArrowRight: '2'}[event.key];
  if (arrow && focus && focus.closest('input, pre')) return;
  const wanted = arrow || event.key.toLowerCase();
  if (wanted === 'c') {
    const comment = stage.querySelector('#rt-comment');
    if (!comment) return;
    event.preventDefault();
    comment.closest('details').open = true;
    comment.focus();
    return;
  }
  const button = [...stage.querySelectorAll('[data-key]')].find(one => one.dataset.key === wanted);
  if (!button || button.disabled) return;
  event.preventDefault();
  button.click();
});

// What is opened does not stay behind the buttons; its scroll margin is their height.
stage.addEventListener('toggle', event => {
  if (event.target.open && event.target.matches('.rt-more')) event.target.scrollIntoView({block: 'nearest'});
}, true);

speak();
ask(waitingVote() || {do: 'open'}, false);
