const D=JSON.parse(document.getElementById('data').textContent),$=id=>document.getElementById(id);
const rows=$('rows'),node=$('node'),kind=$('kind'),text=$('text'),from=$('from'),PAGE=400;let shown=PAGE;
const sec=us=>(us/1e6).toFixed(3);
function list(){const t=text.value.toLowerCase(),f=+from.value*1e6||0;
const hits=D.lines.filter(l=>l[0]>=f&&(node.value===''||l[1]===+node.value||l[1]<0)&&(kind.value==='all'||(kind.value==='quiet'?l[2]!=='message':l[2]===kind.value))&&(!t||l[3].toLowerCase().includes(t)));
rows.textContent='';for(const l of hits.slice(0,shown)){const r=rows.insertRow();r.className='k-'+l[2];for(const c of[sec(l[0]),l[1]<0?'':D.nodes[l[1]],l[2],l[3]])r.insertCell().textContent=c}
$('count').textContent=hits.length+' events'+(hits.length>shown?', the first '+shown+' shown':'');$('more').hidden=hits.length<=shown}
for(const e of[node,kind,text,from])e.addEventListener('input',()=>{shown=PAGE;list()});
$('filter').addEventListener('submit',e=>e.preventDefault());$('more').addEventListener('click',()=>{shown+=PAGE;list()});
const svg=$('chart'),cursor=$('cursor'),tip=$('tip');
function at(e){const r=svg.getBoundingClientRect(),x=(e.clientX-r.left)*D.width/r.width;return x<D.left||x>D.right?null:[x,(x-D.left)/(D.right-D.left)*D.end]}
svg.addEventListener('mousemove',e=>{const p=at(e);if(!p){tip.style.display='none';cursor.setAttribute('visibility','hidden');return}
cursor.setAttribute('visibility','visible');cursor.setAttribute('x1',p[0]);cursor.setAttribute('x2',p[0]);
let s=sec(p[1])+' s';D.nodes.forEach((n,i)=>{let d=null;for(const x of D.views[i]){if(x[0]>p[1])break;d=x}
s+='\n'+n.padEnd(5)+(!D.lives[i].some(l=>l[0]<=p[1]&&p[1]<l[1])?'does not run':!d||d[1]+d[2]===0?'agrees':d[1]+' missing, '+d[2]+' extra')});
for(const f of D.faults)if(f[0]<=p[1]&&p[1]<f[1])s+='\n'+f[2];
tip.textContent=s;tip.style.display='block';tip.style.left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8)+'px';tip.style.top=Math.max(4,Math.min(e.clientY+14,innerHeight-tip.offsetHeight-8))+'px'});
svg.addEventListener('mouseleave',()=>{tip.style.display='none';cursor.setAttribute('visibility','hidden')});
svg.addEventListener('click',e=>{const p=at(e);if(p){from.value=(p[1]/1e6).toFixed(1);shown=PAGE;list();$('events').scrollIntoView({behavior:'smooth'})}});
list();
