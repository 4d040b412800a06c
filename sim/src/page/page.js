const D=JSON.parse(document.getElementById('data').textContent),$=id=>document.getElementById(id);
const rows=$('rows'),node=$('node'),kind=$('kind'),text=$('text'),from=$('from'),PAGE=400;let shown=PAGE;
const sec=us=>(us/1e6).toFixed(3);
const place=i=>i<D.nodes.length?D.nodes[i]:D.clients[i-D.nodes.length][0];
function list(){const t=text.value.toLowerCase(),f=+from.value*1e6||0;
const where=node.value===''?null:+node.value;
const hits=D.lines.filter(l=>l[0]>=f&&(where===null||l[1]===where||l[4]===where||l[1]<0)&&(kind.value==='all'||(kind.value==='quiet'?l[2]!=='message':l[2]===kind.value))&&(!t||l[3].toLowerCase().includes(t)));
rows.textContent='';for(const l of hits.slice(0,shown)){const r=rows.insertRow();r.className='k-'+l[2];for(const c of[sec(l[0]),l[1]<0?'':place(l[1])+(l[4]<0?'':' @ '+D.nodes[l[4]]),l[2],l[3]])r.insertCell().textContent=c}
$('count').textContent=hits.length+' events'+(hits.length>shown?', the first '+shown+' shown':'');$('more').hidden=hits.length<=shown}
for(const e of[node,kind,text,from])e.addEventListener('input',()=>{shown=PAGE;list()});
$('filter').addEventListener('submit',e=>e.preventDefault());$('more').addEventListener('click',()=>{shown+=PAGE;list()});
const svgs=[...document.querySelectorAll('svg.lanes')],cursors=document.querySelectorAll('.cursor'),tip=$('tip');
function at(e){const r=e.currentTarget.getBoundingClientRect(),x=(e.clientX-r.left)*D.width/r.width;return x<D.left||x>D.right?null:[x,(x-D.left)/(D.right-D.left)*D.end]}
const over=e=>{const g=e.target.closest('[data-client]');return g?+g.dataset.client:null};
function hide(){tip.style.display='none';for(const c of cursors)c.setAttribute('visibility','hidden')}
function ofClient(c,t){const in_=s=>s[1]<=t&&t<(s[2]??Infinity),on=c[4].find(s=>s[0]>=0&&in_(s));
let s=c[0]+', over '+c[1];s+='\n'+(on?'connected to '+D.nodes[on[0]]+' since '+sec(on[1])+' s':'not connected');
if(t<c[2])s+=', its user comes at '+sec(c[2])+' s';if(c[3]!==null&&t>=c[3])s+=', its user went at '+sec(c[3])+' s';
for(const x of c[4])if(x[0]<0&&in_(x))s+='\n'+x[3]+' from '+sec(x[1])+' s to '+sec(x[2])+' s';return s}
function ofNodes(t){let s='';D.nodes.forEach((n,i)=>{let d=null;for(const x of D.views[i]){if(x[0]>t)break;d=x}
s+='\n'+n.padEnd(5)+(!D.lives[i].some(l=>l[0]<=t&&t<l[1])?'does not run':!d||d[1]+d[2]===0?'agrees':d[1]+' missing, '+d[2]+' extra')});
for(const f of D.faults)if(f[0]<=t&&t<f[1])s+='\n'+f[2];return s}
for(const svg of svgs){svg.addEventListener('mousemove',e=>{const p=at(e),c=over(e);if(!p&&c===null){hide();return}
if(p)for(const l of cursors){l.setAttribute('visibility','visible');l.setAttribute('x1',p[0]);l.setAttribute('x2',p[0])}
tip.textContent=p?sec(p[1])+' s'+(c===null?ofNodes(p[1]):'\n'+ofClient(D.clients[c],p[1])):D.clients[c][0]+', over '+D.clients[c][1];
tip.style.display='block';tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';tip.style.top=Math.max(4,Math.min(e.clientY+14,innerHeight-tip.offsetHeight-8))+'px'});
svg.addEventListener('mouseleave',hide);
svg.addEventListener('click',e=>{const p=at(e),c=over(e);if(!p&&c===null)return;if(c!==null)node.value=D.nodes.length+c;
from.value=p?(p[1]/1e6).toFixed(1):'';shown=PAGE;list();$('events').scrollIntoView({behavior:'smooth'})})}
list();
