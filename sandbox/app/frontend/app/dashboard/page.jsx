import RemoteList from '../../components/remote-list';

export default function Dashboard() {
  return (
    <>
      <h1>Dashboard</h1>
      <RemoteList path="/api/v1/agents" title="Agents" fields={['name']} />
    </>
  );
}
