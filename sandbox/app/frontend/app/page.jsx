import RemoteList from '../components/remote-list';
import { VERSION } from '../lib/version';

export default function Home() {
  return (
    <>
      <h1>Sparklio V4</h1>
      <p data-version={VERSION}>version {VERSION}</p>
      <RemoteList path="/api/v1/brands" title="Brands" fields={['name', 'tone']} />
    </>
  );
}
