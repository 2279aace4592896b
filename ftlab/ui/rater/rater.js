// The rater's page. Every press becomes one message to the server, which answers with the next screen.
const stage = element.querySelector('.rt-stage');
const live = element.querySelector('.rt-live');
const store = {
  get: name => { try { return localStorage.getItem(name); } catch (error) { return null; } },
  set: (name, value) => { try { localStorage.setItem(name, value); } catch (error) { /* not kept */ } },
};
// The link's secret stands behind the #, so it is in no request line, no log of a proxy and no referrer.
const asked = new URLSearchParams(location.hash.slice(1)).get('key') || '';
let key = store.get('ftlab-rater-' + asked) || asked;
let busy = false, before = 0, since = 0, last = null, draft = {};

// A panel names its people in the address: ?PROLIFIC_PID=..., or whatever parameter it can set.
const named = ['PROLIFIC_PID', 'participant', 'workerId', 'name']
  .map(name => new URLSearchParams(location.search).get(name)).find(value => value) || '';

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

const number = config => config?.components.find(one => one.props.elem_id === 'rater')?.id;
const lost = message => {
  stage.querySelectorAll('.rt-lost').forEach(one => one.remove());
  const box = document.createElement('p');
  box.className = 'rt-problem rt-lost';
  box.setAttribute('role', 'alert');
  box.textContent = 'The server cannot be reached, so this is not saved yet. If it stays so, reload the page: '
    + 'votes that were saved are safe. ';
  const again = document.createElement('button');
  again.type = 'button';
  again.className = 'rt-quiet';
  again.textContent = 'Try again';
  again.onclick = async () => {
    // Served anew, the page's one endpoint may have another number: then the page loads itself again.
    const config = await fetch('config').then(reply => reply.json()).catch(() => null);
    if (config && number(config) !== number(window.gradio_config)) location.reload();
    else ask(message);
  };
  box.append(again);
  (stage.querySelector('.rt-bar') || stage).prepend(box);
  again.focus();
};

const ask = async (message, focus = true) => {
  if (busy) return;
  busy = true;
  stage.setAttribute('aria-busy', 'true');
  const reply = await server.rate({...message, key});
  busy = false;
  stage.removeAttribute('aria-busy');
  if (!reply || typeof reply.screen !== 'string') return lost(message);
  if (reply.key) {
    key = reply.key;
    store.set('ftlab-rater-' + asked, key);
  }
  show(reply, focus);
  if (message.do === 'undo') fill(last); else if (message.do === 'vote') last = message;
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
  if (what === 'vote')
    ask({do: what, trial: trial(), number: +stage.querySelector('[data-number]').dataset.number,
      choice: pressed.dataset.choice, ratings: draft.ratings, comment: draft.comment, seconds: spent()});
  else if (what === 'guess') ask({do: what, trial: trial(), choice: pressed.dataset.choice});
  else if (what === 'undo') ask({do: what, trial: pressed.dataset.last});
  else ask({do: what});
});
element.addEventListener('submit', event => {
  event.preventDefault();
  const written = Object.fromEntries(new FormData(event.target));
  ask({do: event.target.dataset.form, ...written});
});
element.addEventListener('input', keep);

// The two choices of the reader, kept by this browser.
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

ask({do: 'open'}, false);
